package safedial

import "math/rand/v2"

// around are the windows on both sides of a port, the one to try first in front.
// One that is not to be used is empty, and comes last.
type around [2]PortRange

// windows returns the two parts of allowed around port, without those that hold
// no port of system: the first at random, by how many ports of system each holds,
// so that all are used alike.
//
// A window without a port of system must not be used: IP_LOCAL_PORT_RANGE
// ignores each bound that lies outside the namespace's range, so a window beside
// that range means the whole range, port included.
func windows(port uint16, system, allowed PortRange) around {
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
		return around{}
	case inAbove == 0:
		return around{below}
	case inBelow == 0:
		return around{above}
	case rand.IntN(inBelow+inAbove) < inBelow:
		return around{below, above}
	}
	return around{above, below}
}

// list returns the windows to use.
func (a *around) list() []PortRange {
	n := 0
	for n < len(a) && a[n] != (PortRange{}) {
		n++
	}
	return a[:n]
}
