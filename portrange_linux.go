package safedial

import (
	"fmt"
	"os"
	"strings"
)

const (
	localPortRangeFile = "/proc/sys/net/ipv4/ip_local_port_range"
	reservedPortsFile  = "/proc/sys/net/ipv4/ip_local_reserved_ports"
)

// defaultPortRange stands in for a local port range that cannot be read: it is the
// default of ip_local_port_range.
var defaultPortRange = PortRange{Low: 32768, High: 60999}

// LocalPortRange returns the range that the kernel takes a local port from
// when a socket connects, or binds port 0, without naming one: the ephemeral
// ports. It serves TCP and UDP, IPv4 and IPv6.
//
// On Linux it is sysctl net.ipv4.ip_local_port_range (ip(7)) of the network
// namespace that the calling thread is in, read anew by each call; where /proc
// is not mounted the error matches [io/fs.ErrNotExist]. On macOS and FreeBSD it
// is from sysctl net.inet.ip.portrange.first to net.inet.ip.portrange.last. On
// other systems the error matches [errors.ErrUnsupported].
func LocalPortRange() (PortRange, error) {
	text, err := os.ReadFile(localPortRangeFile)
	if err != nil {
		return PortRange{}, err
	}
	return parseLocalPortRange(string(text))
}

// ReservedPorts returns the ports inside the [LocalPortRange] or outside it
// that the kernel never picks by itself, in ascending order; none is an empty
// slice. A socket can still be bound to one of them by name.
//
// On Linux it is sysctl net.ipv4.ip_local_reserved_ports (Linux 2.6.35) of the
// network namespace that the calling thread is in. macOS and FreeBSD keep no such
// list: it is empty there. The errors and the other platforms are those of
// LocalPortRange.
func ReservedPorts() ([]PortRange, error) {
	text, err := os.ReadFile(reservedPortsFile)
	if err != nil {
		return nil, err
	}
	return parseReservedPorts(string(text))
}

// parseLocalPortRange reads "32768\t60999\n".
func parseLocalPortRange(text string) (PortRange, error) {
	fields := strings.Fields(text)
	if len(fields) != 2 {
		return PortRange{}, fmt.Errorf("safedial: local port range %q: want two ports", text)
	}
	low, err := parsePort(fields[0])
	if err != nil {
		return PortRange{}, fmt.Errorf("safedial: local port range %q: %w", text, err)
	}
	high, err := parsePort(fields[1])
	if err != nil {
		return PortRange{}, fmt.Errorf("safedial: local port range %q: %w", text, err)
	}
	if high < low {
		return PortRange{}, fmt.Errorf("safedial: local port range %q: the first port is above the last", text)
	}
	return PortRange{Low: low, High: high}, nil
}

// parseReservedPorts reads "8080,9148-9150\n"; the kernel writes a bitmap that
// way, so the ranges ascend and do not touch.
func parseReservedPorts(text string) ([]PortRange, error) {
	ranges := []PortRange{}
	text = strings.TrimSpace(text)
	if text == "" {
		return ranges, nil
	}
	for item := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(item, "-")
		if !isRange {
			last = first
		}
		low, err := parsePort(first)
		if err != nil {
			return nil, fmt.Errorf("safedial: reserved ports %q: %w", text, err)
		}
		high, err := parsePort(last)
		if err != nil {
			return nil, fmt.Errorf("safedial: reserved ports %q: %w", text, err)
		}
		if high < low {
			return nil, fmt.Errorf("safedial: reserved ports %q: %q ends before it starts", text, item)
		}
		ranges = append(ranges, PortRange{Low: low, High: high})
	}
	return ranges, nil
}
