//go:build darwin || freebsd

package safedial

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// defaultPortRange stands in for a local port range that cannot be read: any port
// may be in it.
var defaultPortRange = everyPort

// LocalPortRange returns the range that the kernel takes a local port from
// when a socket connects, or binds port 0, without naming one: the ephemeral
// ports. It serves TCP and UDP, IPv4 and IPv6.
//
// On macOS and FreeBSD it is from sysctl net.inet.ip.portrange.first to
// net.inet.ip.portrange.last (FreeBSD's ip(4)), of the system or the vnet jail,
// read anew by each call. It is on Linux too; on other systems the error matches
// [errors.ErrUnsupported].
func LocalPortRange() (PortRange, error) {
	first, err := portSysctl("net.inet.ip.portrange.first")
	if err != nil {
		return PortRange{}, err
	}
	last, err := portSysctl("net.inet.ip.portrange.last")
	// The kernel counts down where first is above last.
	return PortRange{Low: min(first, last), High: max(first, last)}, err
}

func portSysctl(name string) (uint16, error) {
	port, err := unix.SysctlUint32(name)
	if err != nil {
		return 0, fmt.Errorf("safedial: %s: %w", name, os.NewSyscallError("sysctl", err))
	}
	if port > uint32(everyPort.High) {
		return 0, fmt.Errorf("safedial: %s: %d is no port", name, port)
	}
	return uint16(port), nil
}

// ReservedPorts returns the ports that the kernel never picks by itself. macOS
// and FreeBSD keep no such list: it is empty.
func ReservedPorts() ([]PortRange, error) { return []PortRange{}, nil }
