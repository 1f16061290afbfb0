package safedial

import (
	"math/rand/v2"

	"golang.org/x/sys/unix"
)

// windows returns the two parts of allowed around port, without those that hold
// no port of system, and the one to try first in front: at random, by how many
// ports of system each holds, so that all are used alike.
//
// A window without a port of system must not be used: IP_LOCAL_PORT_RANGE
// ignores each bound that lies outside the namespace's range, so a window beside
// that range means the whole range, port included.
func windows(port uint16, system, allowed PortRange) []PortRange {
	var below, above PortRange
	if port > 0 {
		below = allowed.intersect(PortRange{Low: 1, High: port - 1})
	}
	if port < everyPort.High {
		above = allowed.intersect(PortRange{Low: port + 1, High: everyPort.High})
	}
	inBelow, inAbove := below.intersect(system).Len(), above.intersect(system).Len()
	switch {
	case inBelow == 0 && inAbove == 0:
		return nil
	case inAbove == 0:
		return []PortRange{below}
	case inBelow == 0:
		return []PortRange{above}
	case rand.IntN(inBelow+inAbove) < inBelow:
		return []PortRange{below, above}
	}
	return []PortRange{above, below}
}

// narrow has the kernel pick the socket's local port from r. It takes Linux 6.3,
// for an MPTCP socket 6.8. From 6.8 on it also makes connect(2) search one port
// after the other instead of one parity first, which is what keeps the cost of
// a dial flat as local ports run out.
func narrow(fd int, r PortRange) error {
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE, int(uint32(r.High)<<16|uint32(r.Low)))
}

// narrowed returns the range that the caller's hook set, each end that it left
// open at its widest.
func narrowed(fd int) PortRange {
	value, err := unix.GetsockoptInt(fd, unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE)
	if err != nil {
		return everyPort
	}
	r := PortRange{Low: uint16(value), High: uint16(uint32(value) >> 16)}
	if r.High == 0 {
		r.High = everyPort.High
	}
	return r
}
