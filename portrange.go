package safedial

import (
	"slices"
	"strconv"
)

// A PortRange is a range of ports, both ends included.
//
// It is empty if High is below Low, and in its zero value: port 0 is no port
// that a socket can have, so no range contains it.
type PortRange struct {
	Low, High uint16
}

// everyPort is what a socket may be bound to at all.
var everyPort = PortRange{Low: 1, High: 65535}

// String returns the range in the form that sysctl ip_local_reserved_ports
// takes: "32768-60999", or "8080" for a single port. An empty range is "".
func (r PortRange) String() string {
	switch r.Len() {
	case 0:
		return ""
	case 1:
		return strconv.Itoa(int(r.High))
	}
	return strconv.Itoa(int(r.Low)) + "-" + strconv.Itoa(int(r.High))
}

// Contains reports whether port is in the range.
func (r PortRange) Contains(port uint16) bool {
	return port != 0 && r.Low <= port && port <= r.High
}

// Len returns the number of ports in the range, 0 to 65535.
func (r PortRange) Len() int {
	return max(0, int(r.High)-int(max(r.Low, 1))+1)
}

// intersect returns the ports that are in both ranges, the zero PortRange if
// there are none.
func (r PortRange) intersect(other PortRange) PortRange {
	both := PortRange{Low: max(r.Low, other.Low, 1), High: min(r.High, other.High)}
	if both.Len() == 0 {
		return PortRange{}
	}
	return both
}

// IsEphemeral reports whether the kernel may hand port out by itself, as the
// local port of a socket that asks for none: it is in the [LocalPortRange] and
// not in the [ReservedPorts]. A server should not listen on such a port,
// because any outgoing connection may be using it already. Port 0 is never
// handed out.
//
// The errors and the platforms are those of LocalPortRange.
func IsEphemeral(port uint16) (bool, error) {
	local, err := LocalPortRange()
	if err != nil {
		return false, err
	}
	if !local.Contains(port) {
		return false, nil
	}
	reserved, err := ReservedPorts()
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(reserved, func(r PortRange) bool { return r.Contains(port) }), nil
}

func parsePort(text string) (uint16, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	return uint16(port), err
}
