package safedial

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A PortRange is a range of ports, both ends included.
//
// It is empty if High is below Low, and in its zero value: port 0 is no port that a
// socket can have, so no range contains it.
type PortRange struct {
	Low, High uint16
}

// Ports returns one range for each port, for [Dialer.AvoidPorts]. Order and duplicates
// do not matter there, and port 0 is ignored.
func Ports(ports ...uint16) []PortRange {
	ranges := make([]PortRange, len(ports))
	for i, port := range ports {
		ranges[i] = PortRange{Low: port, High: port}
	}
	return ranges
}

// everyPort holds all ports that a socket can be bound to.
var everyPort = PortRange{Low: 1, High: 65535}

// String returns the range in the form that sysctl ip_local_reserved_ports takes:
// "32768-60999", or "8080" for a single port. An empty range is "". A Low of 0 is
// printed as it is.
func (r PortRange) String() string {
	switch r.Len() {
	case 0:
		return ""
	case 1:
		return strconv.Itoa(int(r.High))
	}
	return fmt.Sprintf("%d-%d", r.Low, r.High)
}

// Contains reports whether port is in the range.
func (r PortRange) Contains(port uint16) bool {
	return port != 0 && r.Low <= port && port <= r.High
}

// Len returns the number of ports in the range, 0 to 65535.
func (r PortRange) Len() int {
	return max(0, int(r.High)-int(max(r.Low, 1))+1)
}

// intersect returns the ports that are in both ranges, the zero PortRange if there
// are none.
func (r PortRange) intersect(other PortRange) PortRange {
	both := PortRange{Low: max(r.Low, other.Low, 1), High: min(r.High, other.High)}
	if both.Len() == 0 {
		return PortRange{}
	}
	return both
}

// open returns r as IP_LOCAL_PORT_RANGE means it: a High of 0 is no bound.
func (r PortRange) open() PortRange {
	if r.High == 0 {
		r.High = everyPort.High
	}
	return r
}

// LocalPortRange returns the range of ephemeral ports, from which the system chooses
// the local port of a socket that does not specify one. The range applies to TCP and
// UDP over IPv4 and IPv6. Each call reads it anew.
//
// On Linux it is sysctl net.ipv4.ip_local_port_range (ip(7)) of the calling thread's
// network namespace; if /proc is not mounted, the error matches [io/fs.ErrNotExist].
// On macOS and FreeBSD it is from sysctl net.inet.ip.portrange.first to
// net.inet.ip.portrange.last. On other systems the error matches
// [errors.ErrUnsupported].
func LocalPortRange() (PortRange, error) { return localPortRange() }

// ReservedPorts returns the ranges of ports that the system never chooses by itself,
// in ascending order. If there are none, the slice is empty. A socket can still be
// bound to a reserved port explicitly.
//
// On Linux, they are read from sysctl net.ipv4.ip_local_reserved_ports (Linux 2.6.35)
// of the calling thread's network namespace. On macOS and FreeBSD there are none.
// ReservedPorts fails on the same systems and with the same errors as LocalPortRange.
func ReservedPorts() ([]PortRange, error) { return reservedPorts() }

// IsEphemeral reports whether the system may choose port as the local port of a
// socket that does not specify one: whether it is in the [LocalPortRange] and not in
// the [ReservedPorts]. A server should not listen on such a port, because any
// outgoing connection may have it. Port 0 is not ephemeral.
//
// IsEphemeral fails on the same systems and with the same errors as LocalPortRange.
func IsEphemeral(port uint16) (bool, error) {
	local, err := LocalPortRange()
	if err != nil || !local.Contains(port) {
		return false, err
	}
	reserved, err := ReservedPorts()
	return err == nil && !slices.ContainsFunc(reserved, func(r PortRange) bool { return r.Contains(port) }), err
}

// parsePortRanges reads ranges as String writes them, separated by commas.
func parsePortRanges(text string) ([]PortRange, error) {
	ranges := []PortRange{}
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
			return nil, err
		}
		high, err := parsePort(last)
		if err != nil {
			return nil, err
		}
		if high < low {
			return nil, fmt.Errorf("the first port of %q is above the last", item)
		}
		ranges = append(ranges, PortRange{Low: low, High: high})
	}
	return ranges, nil
}

func parsePort(text string) (uint16, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	return uint16(port), err
}
