//go:build !safedial_portable

package safedial

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// connect connects a TCP socket, checks it, and undoes a self-connection.
func (s *socket) connect() (again bool, err error) {
	byCaller, err := s.portBound()
	if err != nil {
		return false, err
	}
	if err := s.bindLocalAddr(); err != nil {
		return isBindAddrInUse(err) && s.from.Port() == 0, hideFromNet(err)
	}
	fixed := byCaller || s.from.Port() != 0
	errno, err := s.connectFrom(fixed)
	switch {
	case err != nil:
		return false, err
	case isConnecting(errno):
		again, err = s.check(fixed)
	default:
		again, err = errno == unix.EADDRNOTAVAIL && !fixed, os.NewSyscallError("connect", errno)
		if again && !s.rangeSet {
			// Without a range connect(2) leaves out one of an odd number of ports.
			crowded.set(s.AddrPort, true)
		}
	}
	if err != nil {
		s.clearOptions()
	} else if s.reuse {
		clearReuseAddr(s.fd)
	}
	if byCaller {
		return again, err // a hook that binds the next port of a pool needs net's own repeats
	}
	return again, hideFromNet(err)
}

// isConnecting reports whether connect(2) has connected the socket, or goes on to.
func isConnecting(errno unix.Errno) bool {
	switch errno {
	case 0, unix.EINPROGRESS, unix.EALREADY, unix.EISCONN, unix.EINTR:
		return true
	}
	return false
}

// sysConnect wraps connect(2). Unlike an error, its number is quickly compared.
func (s *socket) sysConnect() unix.Errno {
	errno, _ := errors.AsType[unix.Errno](unix.Connect(s.fd, s.sockaddr(s.AddrPort)))
	return errno
}

// connectFrom connects the socket from its port, if it is fixed, else from one of
// the kernel's choice. The kernel is told which ports to choose from only if that
// is needed, because connect(2) then takes ports that it otherwise leaves to
// servers that bind port 0.
func (s *socket) connectFrom(fixed bool) (unix.Errno, error) {
	mayChoose := s.system.mayChoose(s.Port())
	if fixed || !mayChoose && !s.limited() && !crowded.has(s.AddrPort) {
		return s.sysConnect(), nil
	}
	if err := s.splitPorts(); err != nil {
		return 0, err
	}
	for i, r := range s.ranges {
		if ok, err := s.setRange(r); err != nil {
			return 0, err
		} else if !ok {
			break
		}
		switch errno := s.sysConnect(); {
		case errno != unix.EADDRNOTAVAIL:
			return errno, nil
		case i == len(s.ranges)-1:
			return s.connectFromEnds(), nil
		}
	}
	// Only the check keeps the promise here. With SO_REUSEADDR a server can bind the
	// port even while the socket is connected to itself.
	s.reuse = mayChoose && setReuseAddr(s.fd)
	return s.sysConnect(), nil
}

// connectFromEnds connects, on the last attempt, from the first and the last port
// of each range of an odd number of ports, if connect(2) leaves out one of the two.
func (s *socket) connectFromEnds() unix.Errno {
	for _, r := range s.ranges {
		r = r.intersect(s.system.local)
		if s.attempts <= s.max || r.Len() == 1 || r.Len()%2 == 0 || !leavesPortOut() {
			continue
		}
		for _, port := range []uint16{r.Low, r.High} {
			if setLocalPortRange(s.fd, PortRange{port, port}) != nil {
				continue
			}
			if errno := s.sysConnect(); errno != unix.EADDRNOTAVAIL {
				return errno
			}
		}
	}
	return unix.EADDRNOTAVAIL
}

// leavesPortOut reports whether connect(2) leaves out a port of a range of an odd
// number of ports, as it does before Linux 6.8. MPTCP sockets have
// IP_LOCAL_PORT_RANGE since then. Without MPTCP, the answer is that it may.
var leavesPortOut = sync.OnceValue(func() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	return setLocalPortRange(fd, everyPort) != nil
})

// check checks both ends of a socket that is connected, or connecting. It undoes a
// self-connection, and a connection that the system made from a port that the caller
// does not allow. It fails if the system does not report the ends.
func (s *socket) check(fixed bool) (again bool, err error) {
	local, peer, err := s.addrs()
	switch {
	case err != nil:
		if errno := s.sysConnect(); !isConnecting(errno) {
			return false, os.NewSyscallError("connect", errno)
		}
	case sameEndpoint(local, peer):
		again, err = !fixed, ErrSelfConnect
	case fixed:
	case !s.allows(local.Port()):
		again, err = true, errLocalPortIgnored(s.portLimits.String(), local.Port())
	case !s.rangeSet && local.Port() != s.oldPort:
		s.noteParity(local.Port())
	}
	if err == nil {
		return false, nil
	}
	s.oldPort = local.Port()
	if disconnect(s.fd) == nil {
		return again, err
	}
	setLinger(uintptr(s.fd), lingerReset)
	if again && errors.Is(err, ErrSelfConnect) {
		err = errNotUndone
	}
	return false, err
}

// addrs returns the ends of the socket: of the socket itself, because a load
// balancer can have changed the destination. A socket that is still connecting has
// no peer yet; its destination takes the peer's place.
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
		return local, s.AddrPort, nil
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
	if s.v6 {
		addr = netip.AddrFrom16([16]byte(s.raw[8:24])) // struct sockaddr_in6, ipv6(7)
	}
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(s.raw[2:4])), 0
}
