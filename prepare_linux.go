//go:build !safedial_portable

package safedial

import (
	"errors"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// prepare makes a UDP socket ready for net to connect. net connects it, and only
// once, because a load balancer below connect(2) chooses a backend each time.
func (s *socket) prepare() (again bool, err error) {
	byCaller, err := s.portBound()
	if err != nil {
		return false, err
	}
	if byCaller || s.from.Port() != 0 {
		if err := s.bindLocalAddr(); err != nil {
			return false, err
		}
		return false, s.checkBound()
	}
	if !s.limited() && s.system.excludes(s.Port()) {
		// No port that the system chooses can be the destination's.
		err := s.bindLocalAddr()
		return isBindAddrInUse(err), err
	}
	if err := s.splitPorts(); err != nil {
		return false, err
	}
	if !s.from.IsValid() {
		return s.leavePortToConnect()
	}
	err = s.bindFrom()
	if err != nil {
		s.clearOptions()
	}
	return isBindAddrInUse(err) || errors.Is(err, ErrSelfConnect) && !errors.Is(err, errNotUndone), err
}

// leavePortToConnect limits the ports that connect(2) chooses from. If that is not
// possible, or the range may mean more because the system's is not known, it binds
// the socket.
func (s *socket) leavePortToConnect() (again bool, err error) {
	if len(s.ranges) > 0 {
		if ok, err := s.setRange(s.ranges[0]); ok && s.system.known || err != nil {
			return false, err
		}
	}
	anywhere := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	err = s.leaveOwnPort(anywhere, s.bind(anywhere))
	if isBindAddrInUse(err) {
		return false, os.NewSyscallError("connect", unix.EAGAIN) // what connect(2) says of it
	}
	return errors.Is(err, ErrSelfConnect) && !errors.Is(err, errNotUndone), err
}

// bindFrom binds the socket to LocalAddr and a port of one of the ranges.
func (s *socket) bindFrom() error {
	for i, r := range s.ranges {
		if ok, err := s.setRange(r); err != nil {
			return err
		} else if !ok {
			break
		}
		if err := s.bind(s.from); !isBindAddrInUse(err) || i == len(s.ranges)-1 {
			return s.leaveOwnPort(s.from, err)
		}
	}
	return s.leaveOwnPort(s.from, s.bind(s.from))
}

// leaveOwnPort checks a socket that bind(2) has bound to port 0 of local, unless it
// has failed with err. If the port is the destination's, and the socket would meet
// itself there, leaveOwnPort binds it anew, while another socket has that port.
func (s *socket) leaveOwnPort(local netip.AddrPort, err error) error {
	if err != nil || s.checkBound() == nil {
		return err
	}
	fd, err := s.twin()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	s.oldPort = s.Port()
	if disconnect(s.fd) != nil {
		return errNotUndone
	}
	other := *s
	other.fd = fd
	_ = other.bind(netip.AddrPortFrom(local.Addr(), s.Port())) // if another process was faster, it has the port
	switch err = s.bind(local); {
	case isBindAddrInUse(err):
		return ErrSelfConnect // no other port is left
	case err != nil:
		return errNotUndone
	}
	return s.checkBound()
}

// twin opens a socket of the same kind.
func (s *socket) twin() (fd int, err error) {
	family := unix.AF_INET
	if s.v6 {
		family = unix.AF_INET6
	}
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	return fd, os.NewSyscallError("socket", err)
}

// checkBound returns ErrSelfConnect if the socket, which has a port, would meet
// itself at the destination. If its address is unspecified, the source address of
// another socket tells. The socket itself is left for net to connect.
func (s *socket) checkBound() error {
	local, err := sockname(s.fd)
	if err != nil {
		return err
	}
	if local.Port() != s.Port() {
		return nil
	}
	if local.Addr().Unmap().IsUnspecified() {
		dest := s.AddrPort
		if dest.Addr() == netip.IPv6Unspecified() {
			dest = netip.AddrPortFrom(netip.IPv6Loopback(), dest.Port())
		}
		source, err := sourceTo(dest)
		if err != nil {
			return nil // net finds no way either
		}
		local = netip.AddrPortFrom(source, local.Port())
	}
	if sameEndpoint(local, s.AddrPort) {
		return ErrSelfConnect
	}
	return nil
}
