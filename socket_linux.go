//go:build !safedial_portable

package safedial

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A socket is the work on one socket. It lasts as long as the hook, and is pooled
// with the memory that each one needs.
type socket struct {
	*hook
	destination
	fd       int
	attempts int
	system   *portState // as of this attempt
	bound    bool       // LocalAddr has been bound
	oldPort  uint16     // which getsockname(2) reports although the caller has not bound it

	avoid    []uint16    // AvoidPorts and the destination's port, ascending
	ranges   []PortRange // to choose the local port from, in turn
	rangeSet bool        // IP_LOCAL_PORT_RANGE holds one of them
	reuse    bool        // SO_REUSEADDR is set until the socket has been checked

	inet4   unix.SockaddrInet4
	inet6   unix.SockaddrInet6
	raw     [unix.SizeofSockaddrInet6]byte
	size    uint32
	control func(fd uintptr)
	again   bool
	err     error
}

var sockets = sync.Pool{New: func() any {
	s := new(socket)
	s.control = func(fd uintptr) {
		s.fd = int(fd)
		s.attempts++
		if s.system = systemPorts(); s.attempts == 2 {
			s.system = readSystemPorts() // the first attempt may have failed because it was stale
		}
		if s.udp {
			s.again, s.err = s.prepare()
		} else {
			s.again, s.err = s.connect()
		}
	}
	return s
}}

func newSocket(h *hook, dest destination) *socket {
	s := sockets.Get().(*socket)
	s.hook, s.destination = h, dest
	s.attempts, s.bound, s.oldPort, s.rangeSet, s.reuse = 0, false, 0, false, false
	s.avoid = append(s.avoid[:0], h.avoidPorts...)
	if at, found := slices.BinarySearch(s.avoid, dest.Port()); !found {
		s.avoid = slices.Insert(s.avoid, at, dest.Port())
	}
	return s
}

func (s *socket) free() {
	s.hook, s.system, s.err = nil, nil, nil
	sockets.Put(s)
}

// attempt makes one attempt to connect the socket, or to prepare it for net. It
// reports whether another attempt may do better than one that failed.
func (s *socket) attempt(c syscall.RawConn) (again bool, err error) {
	if err := c.Control(s.control); err != nil {
		return false, err
	}
	return s.again, s.err
}

// portBound reports whether the caller's hook has bound the socket to a port.
func (s *socket) portBound() (bool, error) {
	if s.caller == nil {
		return false, nil
	}
	local, err := sockname(s.fd)
	return local.Port() != 0 && local.Port() != s.oldPort, err
}

// bindLocalAddr binds the socket to LocalAddr, once, and leaves port 0 to
// connect(2) if the kernel can.
func (s *socket) bindLocalAddr() error {
	if s.bound || !s.from.IsValid() {
		return nil
	}
	late := s.from.Port() == 0 && !s.udp && setBindAddressNoPort(s.fd)
	if err := s.bind(s.from); err != nil {
		return err
	}
	s.bound = true
	if !late && s.from.Port() == 0 {
		local, err := sockname(s.fd)
		s.oldPort = local.Port()
		return err
	}
	return nil
}

// bind wraps bind(2). As with net, the unspecified address is that of the socket's
// family, and an IPv4 address is not for an IPv6 socket, except to dial "::".
func (s *socket) bind(local netip.AddrPort) error {
	addr := local.Addr()
	switch {
	case addr.IsUnspecified() && s.v6:
		addr = netip.IPv6Unspecified()
	case addr.IsUnspecified():
		addr = netip.IPv4Unspecified()
	case addr.Is4() == s.v6 && !(s.v6 && s.Addr().IsUnspecified()):
		return errNoSuitableAddress(s.local)
	}
	return os.NewSyscallError("bind", unix.Bind(s.fd, s.sockaddr(netip.AddrPortFrom(addr, local.Port()))))
}

// sockaddr returns the address in the form that the socket's family takes. It is
// valid until the next call.
func (s *socket) sockaddr(ap netip.AddrPort) unix.Sockaddr {
	if s.v6 {
		s.inet6.Port, s.inet6.ZoneId, s.inet6.Addr = int(ap.Port()), zoneID(s.fd, ap.Addr().Zone()), ap.Addr().As16()
		return &s.inet6
	}
	s.inet4.Port, s.inet4.Addr = int(ap.Port()), ap.Addr().As4()
	return &s.inet4
}

// splitPorts sets s.ranges to the ranges of ports that the caller allows around the
// ports to avoid, in the order in which they are to be used. It fails if the caller
// limits the ports so far that none is left.
func (s *socket) splitPorts() error {
	allowed := everyPort
	if s.localPorts != (PortRange{}) {
		allowed = s.localPorts
	}
	callers := everyPort
	if s.caller != nil {
		callers, _ = localPortRangeOption(s.fd)
	}
	allowed = allowed.intersect(callers)
	s.ranges = s.system.splitAround(s.ranges[:0], allowed, s.avoid)
	if len(s.ranges) == 0 && s.limited() {
		s.system = readSystemPorts()
		s.ranges = s.system.splitAround(s.ranges, allowed, s.avoid)
		if len(s.ranges) == 0 {
			return s.errNoLocalPort(allowed, callers)
		}
	}
	if n := len(s.ranges); n > 1 {
		pick := s.pick
		if pick == 0 {
			pick = rand.Uint32()
		}
		first := (s.system.pick(s.ranges, pick) + s.round) % n
		s.ranges = append(s.ranges, s.ranges[:first]...)[first : first+n]
	}
	return nil
}

// errNoLocalPort returns why there is no port in allowed.
func (s *socket) errNoLocalPort(allowed, callers PortRange) error {
	limits, inRange := s.portLimits.String(), allowed.intersect(s.system.local)
	switch {
	case allowed.Len() == 0:
		return fmt.Errorf("%s: none in the range %s that the caller's hook has set", limits, callers)
	case inRange.Len() == 0:
		return fmt.Errorf("%s: none in the local port range %s (ip_local_port_range)", limits, s.system.local)
	case s.system.usable(inRange) == 0:
		return fmt.Errorf("%s: all reserved by ip_local_reserved_ports", limits)
	}
	return fmt.Errorf("%s: no port other than %v in the range %s", limits, s.avoid, inRange)
}

// setRange makes the kernel choose the local port from r. It reports whether the
// kernel does. If not, that is an error only if the caller limits the ports.
func (s *socket) setRange(r PortRange) (bool, error) {
	err := setLocalPortRange(s.fd, r)
	if err == nil && s.limited() {
		if has, _ := localPortRangeOption(s.fd); has != r {
			err = unix.ENOPROTOOPT // gVisor takes any option
		}
	}
	if err == nil {
		s.rangeSet = true
		return true, nil
	}
	if s.limited() {
		return false, errLocalPortsUnsupported(s.portLimits.String(), os.NewSyscallError("setsockopt IP_LOCAL_PORT_RANGE", err))
	}
	return false, nil
}

// clearOptions clears the options that the attempt has set, before the caller's
// hook is called again.
func (s *socket) clearOptions() {
	if s.rangeSet {
		_ = setLocalPortRange(s.fd, PortRange{})
	}
	if s.reuse {
		clearReuseAddr(s.fd)
	}
	s.rangeSet, s.reuse = false, false
}

// noteParity remembers the destination as crowded if the kernel has chosen one of
// the ports that it chooses last, because it had no other left. The local port
// range is read anew before that is believed: it may be another network
// namespace's. A range of the caller's own has a parity of its own.
func (s *socket) noteParity(port uint16) {
	isCrowded := s.system.otherParity(port) && readSystemPorts().otherParity(port)
	if isCrowded && s.caller != nil {
		_, set := localPortRangeOption(s.fd)
		isCrowded = !set
	}
	crowded.set(s.AddrPort, isCrowded)
}
