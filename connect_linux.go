//go:build !safedial_portable

package safedial

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A socket is one that net has made and the hook connects, or a UDP socket that the hook
// prepares for net to connect. It lasts as long as the hook, and is pooled.
//
// Three words are used for what it does. A try is one connect(2) and the look at what has
// come of it. An attempt tries the parts of the ports one after the other. Most sockets
// have one part, or none, and so one try. A retry is another attempt.
type socket struct {
	hook   *hook
	dest   destination
	desc   descriptor
	choice choice // of the local port

	// examined says that byCaller is known. It is found out before the first try, and again
	// after the caller's hook was called again.
	examined bool

	// byCaller says that the caller's hook has bound the socket to a port.
	byCaller bool

	// bound says that the socket is bound to LocalAddr.
	bound bool

	// autoPort is a port that the kernel has chosen, and that getsockname(2) reports although
	// neither LocalAddr nor the caller's hook has asked for it.
	autoPort uint16

	// told says that IP_LOCAL_PORT_RANGE holds a part of the ports, and reuse that the socket
	// has SO_REUSEADDR until it is checked. Both are safedial's doing.
	told, reuse bool

	// how and err are of the last try.
	how outcome
	err error

	// reason is why the attempt has failed so far. isSelf says that it is ErrSelfConnect.
	reason error
	isSelf bool

	// control is what try gives to syscall.RawConn.
	control func(fd uintptr)
}

// An outcome says what can follow a try.
type outcome int

const (
	// Nothing can follow. Either net goes on with the socket, which is connected, or goes
	// on to connect; or the error is final, such as a refusal by the destination.
	settled outcome = iota

	// Another try can follow. connect(2) has found no local port, and has changed nothing.
	noPort

	// Another try can follow. The socket was connected, to itself or from a port that is not
	// allowed, and the connection was undone. Some options were undone with it.
	undone

	// Only a dial with another socket can follow. The connection could not be undone, or the
	// caller's hook has failed when it was called again.
	spent
)

// The function that try gives to syscall.RawConn is made once for each socket of the pool.
// Another one for each try would be another allocation.
var sockets = sync.Pool{New: func() any {
	s := new(socket)
	s.control = func(fd uintptr) {
		s.desc.fd = int(fd)
		if s.netConnects() {
			s.how, s.err = settled, s.prepare()
		} else {
			s.how = s.connect()
		}
	}
	return s
}}

// newSocket returns a socket that has nothing of the one before but its memory: a part
// that is left over would be tried, and an option that seems to be set would not be.
func newSocket(h *hook, dest destination, ports *systemPorts) *socket {
	s := sockets.Get().(*socket)
	*s = socket{hook: h, dest: dest, control: s.control, desc: descriptor{v6: dest.v6}, choice: choice{
		limits: &h.limits, dest: dest.addr, ports: ports, seed: h.seed, met: h.met, udp: dest.udp, parts: s.choice.parts[:0],
	}}
	s.choice.toSelf = meetsItself(h.local, dest.addr.Addr())
	if !dest.udp {
		s.choice.retry, s.choice.skip = h.round > 0, h.round
	}
	return s
}

// free gives the socket back to the pool, without the memory of others.
func (s *socket) free() {
	s.hook, s.choice.limits, s.choice.ports, s.err, s.reason = nil, nil, nil, nil, nil
	sockets.Put(s)
}

// try tries to connect the socket from the next part of the ports. It prepares a socket
// that net connects.
func (s *socket) try(c syscall.RawConn) outcome {
	if err := c.Control(s.control); err != nil {
		s.how, s.err = settled, err
	}
	if s.how == settled || s.isSelf {
		return s.how
	}
	// If the tries of an attempt have failed in several ways, a connection to itself says
	// most: nothing listens at the destination. That no port is left says more than that a
	// part was ignored, which happens if the local port range is not known.
	s.isSelf = errors.Is(s.err, ErrSelfConnect)
	if s.isSelf || s.how == noPort || s.reason == nil {
		s.reason = s.err
	}
	return s.how
}

// connect makes one try, inside of syscall.RawConn.Control.
func (s *socket) connect() outcome {
	if !s.examined {
		s.examine()
	}
	if !s.choice.made && !s.fixed() {
		if s.err = s.choice.make(); s.err != nil {
			return settled
		}
	}

	// LocalAddr comes first: bind(2) fails on a socket that is connected, and the kernel searches
	// a port for the address that the socket is bound to.
	if s.err = s.bindLocalAddr(); s.err != nil {
		return s.bindFailed()
	}
	if s.choice.count() > 0 {
		if s.err = s.tell(s.choice.part()); s.err != nil {
			return settled
		}
	}

	// If the kernel does not take the option, and if the destination's own port is tried, only
	// the look keeps the promise. The socket may be connected to itself for some microseconds,
	// and a server that starts then finds its port in use. Linux lets the server bind it
	// nevertheless if both sockets have SO_REUSEADDR, as Go's servers do. So the socket has
	// it, too, until it is checked.
	if !s.fixed() && s.choice.mayMeet() {
		s.reuse = s.reuse || s.desc.setReuseAddr()
	}

	errno := s.desc.connect(s.dest.addr)
	if isConnecting(errno) {
		return s.look()
	}
	s.err = os.NewSyscallError("connect", errno)

	// EADDRNOTAVAIL means that the kernel has found no port for the 4-tuple, or no source
	// address. It can be spurious: without a range, connect(2) leaves out one of an odd number
	// of ports, and a port can become free at any moment. For UDP the error is EAGAIN.
	if !s.fixed() && (errno == unix.EADDRNOTAVAIL || s.dest.udp && errno == unix.EAGAIN) {
		if !s.told && s.desc.hasRoute() {
			s.setCrowded(true)
		}
		return noPort
	}

	// If the caller's hook has bound a port, and that has a connection to this destination, the
	// error is EADDRNOTAVAIL, too. A hook that binds the next port of a pool relies on net,
	// which makes two more sockets for that error. In all other cases the retries are
	// safedial's, and net must not multiply them.
	if !s.byCaller {
		s.err = hideFromNet(s.err)
	}
	return settled
}

// isConnecting reports whether connect(2) has connected the socket, or goes on to.
func isConnecting(errno unix.Errno) bool {
	switch errno {
	// The socket does not block, so the answer for TCP is EINPROGRESS, even on loopback,
	// where the connection is made by the time that connect(2) returns.
	case unix.EINPROGRESS:
		return true
	// UDP is connected immediately. So is TCP with TCP_FASTOPEN_CONNECT, which sends no SYN
	// before there is something to write.
	case 0:
		return true
	// The caller's hook can have called connect(2) itself. It can also have made the socket
	// blocking, so that a signal interrupts connect(2), which goes on in the background.
	case unix.EALREADY, unix.EISCONN, unix.EINTR:
		return true
	}
	return false
}

// look looks at both ends of a socket that is connected, or connecting. It undoes a
// connection of the socket to itself, and one from a port that is not allowed.
//
// If the kernel has chosen the destination's port on the destination's host, the SYN comes
// back to the socket, which answers it (simultaneous open). The ends are the same then,
// whether the socket is connected by now or will be in a moment. Nobody else has seen
// anything of it: the connection never leaves the host.
//
// Only the socket knows its ends. A load balancer below connect(2) can have replaced the
// destination, and the kernel may have chosen from other ports than it was told, if the
// local port range is not what it was thought to be.
func (s *socket) look() outcome {
	local, peer, err := s.ends()
	switch {
	case err != nil:
		// A sandbox may refuse to report the ends. A socket that nobody can check must not be
		// connected. But on loopback it may have been refused by now. Another connect(2)
		// tells, and that error comes first.
		s.err = err
		if errno := s.desc.connect(s.dest.addr); !isConnecting(errno) {
			s.err = os.NewSyscallError("connect", errno)
		}
		s.undo()
		return settled
	case sameEndpoint(local, peer):
		s.err, s.choice.met = ErrSelfConnect, local.Port()
	case !s.fixed() && !s.hook.limits.allows(local.Port()):
		s.err = errLimitsIgnored(s.hook.limits.String(), local.Port())
	default:
		// The connection is good. Its port says whether the kernel has run out of those that
		// it tries first, if it has chosen the port from its own range, and just now.
		if !s.told && !s.fixed() && local.Port() != s.autoPort {
			s.noteParity(local.Port())
		}
		if s.reuse {
			s.desc.clearReuseAddr()
		}
		return settled
	}

	s.autoPort = local.Port()
	s.choice.note(local.Port())
	freed := s.undo()
	switch {
	case s.fixed():
		return settled // another try would use the same port
	case freed:
		return undone
	}
	return spent
}

// ends returns the addresses of the socket, as the kernel has them now. A socket that is
// still connecting, or has been refused, has no peer: getpeername(2) fails with ENOTCONN.
// Its destination takes the peer's place. That is enough, because a connection to itself is
// made, or will be, from the destination's own address and port.
func (s *socket) ends() (local, peer netip.AddrPort, err error) {
	local, errno := s.desc.local()
	if errno != 0 {
		return local, peer, asError("getsockname", errno)
	}
	peer, errno = s.desc.peer()
	if errno == unix.ENOTCONN {
		return local, s.dest.addr, nil
	}
	return local, peer, asError("getpeername", errno)
}

// undo dissolves the connection, and reports whether it has. The port is free at once, if
// the kernel has chosen it. A port that the socket was bound to explicitly stays bound until
// the socket is closed, but without a connection it leaves no TIME_WAIT either.
//
// The options that safedial has changed get their old values, because the caller's hook may
// be called again, and must find its own.
//
// If the system refuses (gVisor), the socket closes with a reset. A plain close sends a FIN
// to itself: the socket passes through FIN_WAIT and CLOSING to TIME_WAIT (RFC 9293, section
// 3.6), and no server can bind the port for a minute.
func (s *socket) undo() bool {
	if s.desc.disconnect() != nil {
		setLinger(uintptr(s.desc.fd), lingerReset)
		return false
	}
	if s.told {
		_ = s.desc.setPortRange(s.choice.callers)
	}
	if s.reuse {
		s.desc.clearReuseAddr()
	}
	s.told, s.reuse = false, false
	return true
}

// examine finds out what the caller's hook has done to the socket: whether it has bound it
// to a port, and whether it has set a range of ports. Both are respected.
//
// The port of a socket that nobody has bound is 0. But after an undo, getsockname(2) still
// reports the port that the kernel had chosen before, although the socket has it no longer.
func (s *socket) examine() {
	s.examined = true
	if s.hook.caller == nil {
		return
	}
	local, errno := s.desc.local() // if that fails, the look will fail, too
	s.byCaller = errno == 0 && local.Port() != 0 && local.Port() != s.autoPort
	s.choice.callers = s.desc.portRange()
}

// fixed reports whether LocalAddr or the caller's hook has chosen the port, so that each
// try would use the same one.
func (s *socket) fixed() bool { return s.byCaller || s.hook.from.Port() != 0 }

// begin begins another attempt. The choice is made again, because more is known by now. The
// kernel may have chosen a port that it was not expected to choose.
func (s *socket) begin() {
	s.choice.restart()
	s.reason, s.isSelf = nil, false
}

// tell has the kernel choose the local port from r. If the kernel does not take the option,
// that is an error only if there are limits. Without, the look has to do.
//
// With limits, the first try reads the option back. gVisor takes any option, and forgets
// it, and each connection from a port that is not allowed would reach the server before it
// is undone.
func (s *socket) tell(r PortRange) error {
	limited := s.hook.limits.limited()
	err := s.desc.setPortRange(r)
	if err == nil && limited && !s.told && s.desc.portRange() != r {
		err = os.NewSyscallError("setsockopt IP_LOCAL_PORT_RANGE", unix.ENOPROTOOPT)
	}
	switch {
	case err == nil:
		s.told = true
	case limited:
		return errLimitsUnsupported(s.hook.limits.String(), err)
	default:
		s.choice.refused = true
		s.choice.clear()
	}
	return nil
}

// bindLocalAddr binds the socket to LocalAddr, once. It leaves port 0 to connect(2) if
// the kernel can: bind(2) would choose a port that no other socket has, connect(2) one
// that no other socket has towards this destination.
func (s *socket) bindLocalAddr() error {
	from := s.hook.from
	if s.bound || !from.IsValid() {
		return nil
	}
	// net has chosen the socket's family by the destination alone, because it does not know
	// of LocalAddr. As with net, the unspecified address is that of the socket's family. An
	// address of the other family is good only to dial the host itself, and only from IPv4:
	// from an IPv4 address, connect(2) takes "::" as the IPv4 loopback address.
	addr, toHost := from.Addr(), s.dest.addr.Addr().IsUnspecified()
	switch {
	case addr.Is6() == s.dest.v6:
	case toHost && s.dest.v6:
	case !toHost && addr.IsUnspecified():
	default:
		return errNoSuitableAddress(s.hook.local)
	}
	if addr.IsUnspecified() {
		addr = netip.IPv4Unspecified()
		if s.dest.v6 {
			addr = netip.IPv6Unspecified()
		}
	}

	late := from.Port() == 0 && s.desc.setBindAddressNoPort()
	if err := s.desc.bind(netip.AddrPortFrom(addr, from.Port())); err != nil {
		return err
	}
	s.bound = true
	if from.Port() != 0 || late {
		return nil
	}
	local, errno := s.desc.local()
	s.autoPort = local.Port()
	return asError("getsockname", errno)
}

// bindFailed returns the outcome of a bind(2) that has failed. EADDRINUSE means that no port
// is left if port 0 was asked for, and the kernel could not leave the port to connect(2).
// Then bind(2) has searched all ports, and not one part, so the other parts are not tried.
// EADDRNOTAVAIL means that the address is not the host's, which will not change.
func (s *socket) bindFailed() outcome {
	if !s.fixed() && isNoPort(s.err) {
		s.choice.skipAll()
		return noPort
	}
	s.err = hideFromNet(s.err)
	return settled
}

// noteParity remembers the destination as crowded if the kernel has chosen one of the
// ports that it tries last, because it had no other left. The local port range is read
// anew before that is believed: it may be another network namespace's.
func (s *socket) noteParity(port uint16) {
	s.setCrowded(s.choice.ports.otherParity(port) && readPorts().otherParity(port))
}

// setCrowded remembers whether the destination is crowded, so that the next dial need not
// find out by a search through half of the ports. That is about TCP, and about
// the kernel's own choice: a range of the caller's has another parity, and fewer ports.
func (s *socket) setCrowded(is bool) {
	if !s.dest.udp && s.choice.callers == (PortRange{}) {
		setCrowded(s.dest.addr, is)
	}
}

// worthWaiting reports whether a later attempt may help after one that ended like this. The
// first two retries do not ask, because they do not wait.
//
// It does not if the host has no source address for the destination, because IPv6 is off,
// for example. Then connect(2) fails with EADDRNOTAVAIL, too, and always will. But it fails
// before it has stored a route in the socket. If no port is left, it fails after that.
//
// It is not worth waiting with a Multipath TCP socket either: net tries TCP next.
func (s *socket) worthWaiting(c syscall.RawConn) bool {
	worth := true
	_ = c.Control(func(uintptr) {
		worth = (s.how != noPort || s.dest.udp || s.desc.hasRoute()) && s.desc.protocol() != unix.IPPROTO_MPTCP
	})
	return worth
}

// finalError returns the error of the hook after an attempt that ended like this, and so
// many retries. If another socket is needed, the dial around the hook has to know.
func (s *socket) finalError(how outcome, retries int) error {
	if how == spent {
		return &hookError{err: s.reason, retries: retries, met: s.choice.met}
	}
	return hideFromNet(s.reason)
}

// netConnects reports whether net connects the socket, because it is a UDP socket. A load
// balancer at connect(2), such as Cilium's, chooses a backend each time, so net alone
// connects it. Programs at bind(2), such as systemd's SocketBindDeny=, see only what a dial
// of net.Dialer would show them. And nothing has to be undone, by which a UDP socket would
// lose SO_BINDTODEVICE.
//
// But if there are limits, and it is not known in which parts the kernel has ports, then
// somebody has to look which one it chooses. For a NetDialer, that is the hook.
func (s *socket) netConnects() bool {
	h := s.hook
	mustLook := !h.checked && !h.netBinds && h.limits.limited() && !s.choice.ports.known
	return s.dest.udp && !mustLook
}

// prepare tells the kernel which ports to choose from for a UDP socket that net binds and
// connects. A Dialer looks at the connection when net has returned it, so it has something
// to tell only if there are limits. A NetDialer's dials have nobody who looks, so the kernel
// is told to choose a port on one side of the destination's.
func (s *socket) prepare() error {
	s.examine()
	h := s.hook
	limited := h.limits.limited()
	if h.record != nil {
		h.record.portBound = s.byCaller
	}
	switch {
	case s.fixed(), h.checked && !limited:
		return nil // the dial looks at the connection
	case !h.checked && limited && !s.choice.ports.known: // and net binds: see netConnects
		return errLimitsUnsupported(h.limits.String(), errRangeUnknown)
	}

	if err := s.choice.make(); err != nil || s.choice.count() == 0 {
		return err
	}
	s.choice.next = h.round % s.choice.count()
	if h.record != nil {
		h.record.parts = s.choice.count()
	}
	return s.tell(s.choice.part())
}
