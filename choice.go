package safedial

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// A choice says which local ports the kernel is to choose from for a socket.
//
// IP_LOCAL_PORT_RANGE takes one range of ports, so each port that must not be chosen cuts
// the ports in two parts, which are tried one after the other:
//
//	1            the local port range            65535
//	|--------|.......*..............x.........|------|
//	[     part      ] [     part   ] [     part      ]
//
// Here x is a port to avoid, and * the destination's own port. That is cut out, too, and
// comes last, as a part of one port. If the destination is on another host, it is a port like
// any other. On this host, a connection from it is one of the socket to itself. For some
// microseconds it would keep a server from its port, so it is not tried if the addresses tell
// that before. The ends of a part may lie outside of the local port
// range, because the kernel only narrows its own range.
type choice struct {
	limits *limits
	dest   netip.AddrPort
	ports  *systemPorts
	seed   uint32 // random; 0: another for each attempt
	skip   int    // the number of parts that other sockets of the dial have begun with

	// What is known of this socket.
	udp      bool
	toSelf   bool      // from its own port, the destination is the socket itself
	callers  PortRange // IP_LOCAL_PORT_RANGE as the caller's hook has left it
	refused  bool      // the kernel does not take the option
	met      uint16    // the port from which it, or a socket before it, was connected to itself; 0: none
	outdated bool      // the kernel has chosen a port that is not in ports

	// The parts of this attempt.
	made    bool
	retry   bool // this is not the first attempt
	parts   []part
	first   int    // the index of the part that comes first, modulo their number; the others follow in turn
	own     uint16 // the port that comes after the parts, 0 if none does
	next    int    // how many parts have been tried
	leftOut bool   // some parts are not among them, because they have no usable port
}

// A part is a range of ports that the kernel is told to choose from. Its usable ports are
// those in the local port range that are not reserved. They say nothing about how many are
// free at the moment.
type part struct {
	ports  PortRange
	usable int // how many of them it may choose, as far as is known
}

// make makes the choice for an attempt. It has no parts if the kernel may choose as it
// does by itself.
//
// The kernel is told which ports to choose from only if that is needed:
//
//   - It may choose the destination's own port, the only one from which a socket can be
//     connected to itself.
//   - There are limits.
//   - The destination is crowded: connect(2) would search half of the ports in vain.
//
// With the option set, connect(2) goes through the ports one by one (Linux 6.8). Without,
// it goes through every second port first, and leaves the others to programs that bind
// port 0. So a dial that sets the option without need takes ports from servers.
func (c *choice) make() error {
	c.made = true
	c.clear()
	limited := c.limits.limited()

	// The first question is whether the kernel may choose the destination's own port.
	//
	// What was read about the ports may be out of date, or another network namespace's, and
	// it is a guess if nothing could be read. A guess is good enough for a first TCP try,
	// because the look at the socket tells more. A UDP socket of a NetDialer has no look.
	//
	// If the socket has been connected to itself, that port is the one. It need not be the
	// destination's: a load balancer can have replaced the destination.
	own := c.dest.Port()
	trusted := c.ports.known || !c.retry && !c.udp
	switch {
	case c.met != 0:
		own = c.met
	case trusted && !c.ports.mayChoose(own):
		own = 0
	}
	if c.refused || own == 0 && !limited && (c.udp || !isCrowded(c.dest)) {
		return nil
	}

	// What the caller's hook has set limits the choice, too. It is narrowed, and never widened.
	allowed := everyPort
	if c.limits.only != (PortRange{}) {
		allowed = c.limits.only
	}
	byCaller := c.callers != PortRange{}
	if byCaller {
		allowed = allowed.intersect(c.callers.open())
	}
	c.fill(allowed, own, limited || byCaller)
	if c.count() == 0 && limited {
		return c.errNoPort(allowed)
	}
	return nil
}

// fill makes the parts of the ports in allowed. If own is not 0, it is cut out.
//
// The kernel ignores each bound that lies outside of the local port range. So a part that
// lies outside as a whole means every port of that range, also those that are not allowed.
// With strict set, such parts are left out, and all others without a usable port. That is
// for limits, for which the ports were read just now. Without limits every port is allowed,
// and if what was read is out of date, the part may be the one that has ports. And if the
// range is not known at all, nothing is left out.
func (c *choice) fill(allowed PortRange, own uint16, strict bool) {
	c.split(allowed, own)
	strict = strict && c.ports.known
	if strict {
		all := len(c.parts)
		c.parts = slices.DeleteFunc(c.parts, func(p part) bool { return p.usable == 0 })
		c.leftOut = len(c.parts) < all
	}
	if allowed.Contains(own) && c.limits.allows(own) && (!strict || c.ports.mayChoose(own)) && !c.toSelf {
		c.own = own
	}

	// The first part is random, in proportion to the usable ports, so that all ports are
	// used alike. With limits, the seed is the same for all sockets of a dial, so that each
	// begins with the next part.
	total := 0
	for _, p := range c.parts {
		total += p.usable
	}
	seed := c.seed
	if seed == 0 && len(c.parts) > 1 {
		seed = rand.Uint32()
	}
	at := int(uint64(seed) * uint64(total) >> 32)
	for i, p := range c.parts {
		if at -= p.usable; at < 0 {
			c.first = i
			break
		}
	}
	c.first += c.skip
}

// split makes the parts, and counts their usable ports, in one pass through the ports to
// avoid and the reserved ones, which both ascend. Lists can be long: a kernel's list of
// reserved ports has up to 32,768 ranges, and the parts are made for each attempt.
func (c *choice) split(allowed PortRange, own uint16) {
	next := int(max(allowed.Low, 1)) // the first port that is in no part yet
	reserved := c.ports.reserved     // those that do not end below next

	// cut ends a part below low, and lets the next one begin above high. Numbers are ints,
	// because there is no port above 65535 to begin with.
	cut := func(low, high int) {
		if end := min(low-1, int(allowed.High)); next <= end {
			r := PortRange{Low: uint16(next), High: uint16(end)}
			for len(reserved) > 0 && reserved[0].High < r.Low {
				reserved = reserved[1:]
			}
			c.parts = append(c.parts, part{ports: r, usable: usable(r.intersect(c.ports.local), reserved)})
		}
		next = max(next, high+1)
	}
	for _, r := range c.limits.avoid {
		if own != 0 && own < r.Low {
			cut(int(own), int(own))
			own = 0
		}
		cut(int(r.Low), int(r.High))
	}
	if own != 0 {
		cut(int(own), int(own))
	}
	cut(int(allowed.High)+1, int(allowed.High))
}

// usable returns how many ports of r are not in the ascending ranges reserved. It stops at
// the first range above r, so that split stays linear.
func usable(r PortRange, reserved []PortRange) int {
	n := r.Len()
	for _, taken := range reserved {
		if taken.Low > r.High {
			break
		}
		n -= r.intersect(taken).Len()
	}
	return n
}

// clear removes all parts, so that the kernel chooses as it does by itself. What is known of
// the socket stays.
func (c *choice) clear() {
	c.parts, c.first, c.own, c.next, c.leftOut = c.parts[:0], 0, 0, 0, false
}

// count returns the number of parts, the destination's own port included. With 0 the kernel
// is not told anything.
func (c *choice) count() int {
	if c.own != 0 {
		return len(c.parts) + 1
	}
	return len(c.parts)
}

// mayMeet reports whether a connection from the next part may be one of the socket to
// itself: if it is the destination's own port, or if it is not known to have another one.
func (c *choice) mayMeet() bool {
	switch {
	case len(c.parts) == 0 && c.own == 0:
		return c.refused && c.ports.mayChoose(c.dest.Port())
	case c.next < len(c.parts):
		return c.parts[(c.first+c.next)%len(c.parts)].usable == 0
	}
	return true
}

// part returns the part that is next. There must be one: see count.
func (c *choice) part() PortRange {
	if c.next < len(c.parts) {
		return c.parts[(c.first+c.next)%len(c.parts)].ports
	}
	return PortRange{Low: c.own, High: c.own}
}

// advance goes on to the next part, and reports whether there is one in this attempt. If
// the socket has been connected to itself, the destination's own port is not tried: it
// would be so again.
func (c *choice) advance(isSelf bool) bool {
	c.next++
	if c.next < len(c.parts) || c.next < c.count() && !isSelf {
		return true
	}
	if !c.outdated || !c.leftOut {
		return false
	}
	// Parts were left out because of a range that has proved wrong. So the parts are made again,
	// from a range that is not known, and the look tells in which of them the kernel has ports.
	c.ports = &systemPorts{local: c.ports.local}
	c.made = false
	return true
}

// skipAll ends the attempt.
func (c *choice) skipAll() { c.next = c.count() }

// restart begins another attempt, for which the choice has to be made again.
func (c *choice) restart() { c.made, c.retry = false, true }

// note notes which port the kernel has chosen. If it has not kept to the part that it was
// told, or to the local port range as it was read, that is out of date, or another
// namespace's.
func (c *choice) note(port uint16) {
	ignored := c.next < c.count() && !c.part().Contains(port)
	c.outdated = c.outdated || ignored || !c.ports.mayChoose(port)
}

// errNoPort returns why there is no port in allowed. The one that can be changed most easily
// comes first: the caller's own range, then the two sysctls.
func (c *choice) errNoPort(allowed PortRange) error {
	inRange := allowed.intersect(c.ports.local)
	switch {
	case allowed.Len() == 0:
		return fmt.Errorf("%s: none in the range %s that the caller's hook has set", c.limits, c.callers.open())
	case inRange.Len() == 0:
		return fmt.Errorf("%s: none in the local port range %s (ip_local_port_range)", c.limits, c.ports.local)
	case usable(inRange, c.ports.reserved) == 0:
		return fmt.Errorf("%s: all reserved by ip_local_reserved_ports", c.limits)
	}
	return fmt.Errorf("%s: no other port in the range %s", c.limits, inRange)
}
