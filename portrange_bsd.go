//go:build darwin || freebsd

package safedial

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// defaultPortRange stands in for a local port range that cannot be read.
var defaultPortRange = everyPort

// localPortRange takes the two ports in either order: the kernel counts down if first
// is above last (FreeBSD's ip(4)).
func localPortRange() (PortRange, error) {
	first, err := portSysctl("net.inet.ip.portrange.first")
	if err != nil {
		return PortRange{}, err
	}
	last, err := portSysctl("net.inet.ip.portrange.last")
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

func reservedPorts() ([]PortRange, error) { return []PortRange{}, nil }
