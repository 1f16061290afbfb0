//go:build !safedial_portable

package safedial

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A socket is one that net has made and the hook connects, or a UDP socket that the hook
// prepares for net to connect. It lasts as long as the hook. It is pooled, with the
// memory that each one needs.
type socket struct {
	hook  *hook
	dest  destination
	ports *systemPorts
	fd    int

	// What the caller's hook has done. It is found out before the first try, and again
	// after the caller's hook was called again.
	examined bool
	fixed    bool      // LocalAddr or the caller's hook has chosen the port
	byCaller bool      // the caller's hook has
	callers  PortRange // IP_LOCAL_PORT_RANGE as the caller's hook has left it

	// The ports to choose from.
	choice   choice
	chosen   bool // choice is made, for this attempt
	retried  bool
	met      bool // the socket has been connected to itself
	outdated bool // the kernel has chosen a port that ports do not contain
	refused  bool // the kernel does not take IP_LOCAL_PORT_RANGE

	// What safedial has done to the socket.
	bound   bool   // it is bound to LocalAddr
	oldPort uint16 // what getsockname(2) reports although nobody has bound it explicitly
	told    bool   // IP_LOCAL_PORT_RANGE holds a part
	reuse   bool   // SO_REUSEADDR is lent

	how    outcome // of the last try
	err    error   // of the last try
	reason error   // why the attempt has failed so far
	isSelf bool    // reason is ErrSelfConnect

	inet4   unix.SockaddrInet4
	inet6   unix.SockaddrInet6
	raw     [unix.SizeofSockaddrInet6]byte
	size    uint32
	control func(fd uintptr)
}

// An outcome says what can follow a try to connect a socket.
type outcome int

const (
	settled outcome = iota // nothing: net goes on with the socket, or the error is final
	noPort                 // another try: connect(2) found no local port, and has changed nothing
	undone                 // another try: the connection was undone, with some of the options
	spent                  // another socket: the connection could not be undone
)

var sockets = sync.Pool{New: func() any {
	s := new(socket)
	s.control = func(fd uintptr) {
		s.fd = int(fd)
		if s.netConnects() {
			s.how, s.err = settled, s.prepare()
		} else {
			s.how = s.connect()
		}
	}
	return s
}}

func newSocket(h *hook, dest destination, ports *systemPorts) *socket {
	s := sockets.Get().(*socket)
	*s = socket{hook: h, dest: dest, ports: ports, choice: choice{parts: s.choice.parts[:0]}, control: s.control}
	return s
}

func (s *socket) free() {
	s.hook, s.ports, s.err, s.reason = nil, nil, nil, nil
	sockets.Put(s)
}

// try tries to connect the socket from the next part of the ports. It prepares a socket
// that net connects.
func (s *socket) try(c syscall.RawConn) outcome {
	if err := c.Control(s.control); err != nil {
		s.how, s.err = settled, err
	}
	if s.how != settled && !s.isSelf {
		s.isSelf = errors.Is(s.err, ErrSelfConnect)
		s.reason = s.err
	}
	return s.how
}

// finalError returns the error of the hook after an attempt that ended so, and so many
// retries.
func (s *socket) finalError(how outcome, retries int) error {
	if how == spent {
		return &hookError{err: s.reason, retries: retries}
	}
	return hideFromNet(s.reason)
}

// connect makes one connect(2), and looks what came of it.
func (s *socket) connect() outcome {
	if !s.examined {
		s.examine()
	}
	if !s.chosen {
		if s.err = s.choosePorts(); s.err != nil {
			return settled
		}
	}
	if err := s.bindLocalAddr(); err != nil {
		s.err = hideFromNet(err)
		if s.hook.from.Port() == 0 && isNoPort(err) {
			s.choice.next = s.choice.count() // bind(2) does not choose from the parts
			return noPort
		}
		return settled
	}
	if s.choice.count() > 0 {
		if s.err = s.tell(s.choice.part()); s.err != nil {
			return settled
		}
	}
	if s.refused && s.ports.mayChoose(s.dest.addr.Port()) && !s.fixed {
		// Only the look keeps the promise here. With SO_REUSEADDR, a server can bind the
		// port even while the socket is connected to itself.
		s.reuse = s.reuse || setReuseAddr(s.fd)
	}

	errno := s.sysConnect()
	switch {
	case isConnecting(errno):
		return s.look()
	case s.fixed:
	case errno == unix.EADDRNOTAVAIL, errno == unix.EAGAIN && s.dest.udp:
		s.err = os.NewSyscallError("connect", errno)
		if !s.told && !s.dest.udp {
			// Without a range, connect(2) leaves out one of an odd number of ports before
			// Linux 6.8. And the next dial need not search in vain.
			setCrowded(s.dest.addr, true)
		}
		return noPort
	}
	s.err = os.NewSyscallError("connect", errno)
	if !s.byCaller {
		// A hook that binds the next port of a pool needs net's own repeats.
		s.err = hideFromNet(s.err)
	}
	return settled
}

// isConnecting reports whether connect(2) has connected the socket, or goes on to.
func isConnecting(errno unix.Errno) bool {
	switch errno {
	case 0, unix.EINPROGRESS, unix.EALREADY, unix.EISCONN, unix.EINTR:
		return true
	}
	return false
}

// look looks at both ends of a socket that is connected, or connecting. It undoes a
// connection of the socket to itself, and one from a port that the caller does not allow.
//
// The ends are asked for at once, because only the socket knows them: a load balancer at
// connect(2) can have replaced the destination, and the kernel may have chosen from other
// ports than it was told.
func (s *socket) look() outcome {
	local, peer, err := s.addrs()
	switch {
	case err != nil:
		// The system does not report the ends (a sandbox may refuse it), so the socket must
		// not be connected. But if it has failed by now, that error comes first.
		s.err = err
		if errno := s.sysConnect(); !isConnecting(errno) {
			s.err = os.NewSyscallError("connect", errno)
		}
		s.undo()
		return settled
	case sameEndpoint(local, peer):
		s.err, s.met = ErrSelfConnect, true
	case !s.fixed && !s.hook.limits.allows(local.Port()):
		s.err = errLimitsIgnored(s.hook.limits.String(), local.Port())
	default:
		s.err = nil
		if !s.told && !s.fixed && !s.dest.udp && local.Port() != s.oldPort {
			s.noteParity(local.Port())
		}
		if s.reuse {
			clearReuseAddr(s.fd)
		}
		return settled
	}

	s.oldPort = local.Port()
	s.outdated = s.outdated || !s.ports.mayChoose(local.Port())
	wasUndone := s.undo()
	switch {
	case s.fixed:
		return settled // another try would use the same port
	case !wasUndone:
		return spent
	}
	return undone
}

// undo dissolves the connection, so that the port is free at once, and puts back the
// options that were changed. If the system refuses, it has the socket close with a reset,
// because a plain close of a connection to itself leaves TIME_WAIT.
func (s *socket) undo() bool {
	if disconnect(s.fd) != nil {
		setLinger(uintptr(s.fd), lingerReset)
		return false
	}
	if s.told {
		_ = setLocalPortRange(s.fd, s.callers)
	}
	if s.reuse {
		clearReuseAddr(s.fd)
	}
	s.told, s.reuse = false, false
	return true
}

// examine finds out what the caller's hook has done to the socket.
func (s *socket) examine() {
	s.examined, s.fixed, s.byCaller = true, s.hook.from.Port() != 0, false
	if s.hook.caller == nil {
		return
	}
	// A system that does not report the port fails the look, too.
	local, err := sockname(s.fd)
	if err == nil && local.Port() != 0 && local.Port() != s.oldPort {
		s.fixed, s.byCaller = true, true
	}
	s.callers = localPortRangeOption(s.fd)
}

// choosePorts makes the choice of ports for an attempt: none, if the kernel may choose any.
//
// The kernel is told which ports to choose from only if that is needed, because connect(2)
// then also takes ports that it otherwise leaves to servers that bind port 0.
func (s *socket) choosePorts() error {
	s.chosen = true
	s.choice.clear()
	own := s.dest.addr.Port()
	if !s.ports.mayChoose(own) && !s.met && (s.ports.known || !s.retried && !s.dest.udp) {
		own = 0 // the kernel does not choose it
	}
	l := &s.hook.limits
	if s.fixed || s.refused || own == 0 && !l.limited() && !isCrowded(s.dest.addr) {
		return nil
	}

	allowed := everyPort
	if l.only != (PortRange{}) {
		allowed = l.only
	}
	set := s.callers != (PortRange{})
	if set {
		allowed = allowed.intersect(open(s.callers))
	}
	seed := s.hook.seed
	if seed == 0 {
		seed = rand.Uint32()
	}
	// What was read may exclude a part only from ports that are limited, for which it was
	// read just now.
	s.choice.fill(s.ports, allowed, l.avoid, own, seed, l.limited() || set)
	if s.choice.count() == 0 && l.limited() {
		return s.errNoLocalPort(allowed)
	}
	return nil
}

// errNoLocalPort returns why there is no port in allowed.
func (s *socket) errNoLocalPort(allowed PortRange) error {
	l := &s.hook.limits
	inRange := allowed.intersect(s.ports.local)
	switch {
	case allowed.Len() == 0:
		return fmt.Errorf("%s: none in the range %s that the caller's hook has set", l, open(s.callers))
	case inRange.Len() == 0:
		return fmt.Errorf("%s: none in the local port range %s (ip_local_port_range)", l, s.ports.local)
	case s.ports.usable(inRange) == 0:
		return fmt.Errorf("%s: all reserved by ip_local_reserved_ports", l)
	}
	return fmt.Errorf("%s: no other port in the range %s", l, inRange)
}

// firstPart begins another attempt.
func (s *socket) firstPart() {
	s.chosen, s.retried = false, true
	s.reason, s.isSelf = nil, false
}

// nextPart reports whether there is another part of the ports to try in this attempt.
func (s *socket) nextPart() bool {
	s.choice.next++
	if s.choice.next < s.choice.count() {
		return true
	}
	if !s.outdated || !s.choice.leftOut {
		return false
	}
	// The ports are not those of the socket's network namespace, or they have changed, so
	// they exclude nothing.
	s.ports = &systemPorts{local: s.ports.local}
	s.chosen = false
	return true
}

// tell has the kernel choose the local port from r. That it does not take the option is an
// error only if there are limits. gVisor takes any option, and forgets it.
func (s *socket) tell(r PortRange) error {
	limited := s.hook.limits.limited()
	err := setLocalPortRange(s.fd, r)
	if err == nil && limited && !s.told && localPortRangeOption(s.fd) != r {
		err = unix.ENOPROTOOPT
	}
	if err == nil {
		s.told = true
		return nil
	}
	if limited {
		return errLimitsUnsupported(s.hook.limits.String(), os.NewSyscallError("setsockopt IP_LOCAL_PORT_RANGE", err))
	}
	s.refused = true
	s.choice.clear()
	return nil
}

// netConnects reports whether net connects the socket, a UDP socket. A load balancer at
// connect(2) chooses a backend each time, so net alone connects it.
//
// But if there are limits, and it is not known in which parts the kernel may choose a
// port, somebody has to look which one it chooses. For a NetDialer that is the hook.
func (s *socket) netConnects() bool {
	h := s.hook
	needsLook := !h.checked && !h.netBinds && h.limits.limited() && !s.ports.known
	return s.dest.udp && !needsLook
}

// prepare tells the kernel which ports to choose from for a UDP socket that net binds and
// connects.
func (s *socket) prepare() error {
	s.examine()
	h := s.hook
	limited := h.limits.limited()
	if h.record != nil {
		h.record.portBound = s.byCaller
	}
	switch {
	case s.fixed, h.checked && !limited:
		return nil // the dial looks at the connection
	case !h.checked && limited && !s.ports.known:
		return errLimitsUnsupported(h.limits.String(), errRangeUnknown)
	}
	if err := s.choosePorts(); err != nil || s.choice.count() == 0 {
		return err
	}
	s.choice.next = h.round % s.choice.count()
	if h.record != nil {
		h.record.parts = s.choice.count()
	}
	return s.tell(s.choice.part())
}

// worthWaiting reports whether a later attempt may help a try that has ended so.
//
// It does not help if the host has no source address for the destination, because IPv6 is
// off, for example. connect(2) then fails with EADDRNOTAVAIL, too, but before it has found
// a route, and without one the socket has no IPV6_MTU. Nor is it worth to wait with a
// Multipath TCP socket: net tries TCP next.
func (s *socket) worthWaiting(c syscall.RawConn) bool {
	worth := true
	_ = c.Control(func(fd uintptr) {
		protocol, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL)
		if err == nil && protocol == unix.IPPROTO_MPTCP {
			worth = false
			return
		}
		if s.how == noPort && s.dest.v6 && !s.dest.udp {
			_, err := unix.GetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_MTU)
			worth = !errors.Is(err, unix.ENOTCONN)
		}
	})
	return worth
}

// bindLocalAddr binds the socket to LocalAddr, once. It leaves port 0 to connect(2) if
// the kernel can.
func (s *socket) bindLocalAddr() error {
	from := s.hook.from
	if s.bound || !from.IsValid() {
		return nil
	}
	late := from.Port() == 0 && setBindAddressNoPort(s.fd)

	// As with net, the unspecified address is that of the socket's family, and an IPv4
	// address is not for an IPv6 socket, except to dial "::".
	addr := from.Addr()
	switch {
	case addr.IsUnspecified() && s.dest.v6:
		addr = netip.IPv6Unspecified()
	case addr.IsUnspecified():
		addr = netip.IPv4Unspecified()
	case addr.Is4() == s.dest.v6 && !(s.dest.v6 && s.dest.addr.Addr().IsUnspecified()):
		return errNoSuitableAddress(s.hook.local)
	}
	if err := unix.Bind(s.fd, s.sockaddr(netip.AddrPortFrom(addr, from.Port()))); err != nil {
		return os.NewSyscallError("bind", err)
	}
	s.bound = true
	if !late && from.Port() == 0 {
		local, err := sockname(s.fd)
		s.oldPort = local.Port()
		return err
	}
	return nil
}

// noteParity remembers the destination as crowded if the kernel has chosen one of the
// ports that it tries last, because it had no other left. The local port range is read
// anew before that is believed: it may be another network namespace's. A range of the
// caller's own has a parity of its own.
func (s *socket) noteParity(port uint16) {
	is := s.ports.otherParity(port) && s.callers == (PortRange{}) && readPorts().otherParity(port)
	setCrowded(s.dest.addr, is)
}

// sysConnect wraps connect(2). Unlike an error, its number is quickly compared.
func (s *socket) sysConnect() unix.Errno {
	errno, _ := errors.AsType[unix.Errno](unix.Connect(s.fd, s.sockaddr(s.dest.addr)))
	return errno
}

// sockaddr returns the address in the form that the socket's family takes. It is valid
// until the next call.
func (s *socket) sockaddr(ap netip.AddrPort) unix.Sockaddr {
	if s.dest.v6 {
		s.inet6.Port, s.inet6.ZoneId, s.inet6.Addr = int(ap.Port()), zoneID(s.fd, ap.Addr().Zone()), ap.Addr().As16()
		return &s.inet6
	}
	s.inet4.Port, s.inet4.Addr = int(ap.Port()), ap.Addr().As4()
	return &s.inet4
}

// addrs returns the ends of the socket. A socket that is still connecting has no peer yet;
// its destination takes the peer's place.
func (s *socket) addrs() (local, peer netip.AddrPort, err error) {
	local, errno := s.addr(unix.SYS_GETSOCKNAME)
	if errno != 0 {
		return local, peer, os.NewSyscallError("getsockname", errno)
	}
	peer, errno = s.addr(unix.SYS_GETPEERNAME)
	switch errno {
	case 0:
		return local, peer, nil
	case unix.ENOTCONN:
		return local, s.dest.addr, nil
	}
	return local, peer, os.NewSyscallError("getpeername", errno)
}

// addr makes one of the two system calls that return an address. Those of package
// syscall allocate it.
func (s *socket) addr(call uintptr) (netip.AddrPort, unix.Errno) {
	s.size = uint32(len(s.raw))
	_, _, errno := unix.Syscall(call, uintptr(s.fd), uintptr(unsafe.Pointer(&s.raw)), uintptr(unsafe.Pointer(&s.size)))
	if errno != 0 {
		return netip.AddrPort{}, errno
	}
	addr := netip.AddrFrom4([4]byte(s.raw[4:8])) // struct sockaddr_in, ip(7)
	if s.dest.v6 {
		addr = netip.AddrFrom16([16]byte(s.raw[8:24])) // struct sockaddr_in6, ipv6(7)
	}
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(s.raw[2:4])), 0
}
