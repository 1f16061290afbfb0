package safedial

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
)

// ErrSelfConnect is the error of a dial whose socket was connected to itself:
// the kernel picked the destination's port as the local port, nobody listened
// there, and the socket answered its own SYN by TCP's simultaneous open
// (RFC 9293, section 3.5). The connection has been discarded.
//
// That nobody listens is what "connection refused" says, so an error that
// matches ErrSelfConnect also matches [syscall.ECONNREFUSED] (on Windows
// WSAECONNREFUSED as well), and code that retries a refused dial needs no
// change. It is not a timeout.
var ErrSelfConnect error = selfConnectError{}

type selfConnectError struct{}

func (selfConnectError) Error() string {
	return "connect: connection refused: socket connected to itself"
}

// Is has it match a refused connection.
func (selfConnectError) Is(target error) bool { return slices.Contains(connRefused, target) }

func (selfConnectError) Unwrap() error { return os.NewSyscallError("connect", connRefused[0]) }

// IsSelfConnect reports whether conn is connected to itself, so that it would
// read back what is written to it. It serves any connection, also one that
// safedial did not dial: it looks through NetConn methods (as [crypto/tls.Conn]
// has), asks the socket for both its ends where there is one, and compares the
// connection's addresses where there is none. It is false for nil, for networks
// other than TCP and UDP, and for a connection whose ends cannot be told.
//
// It may be called concurrently with the connection's methods.
func IsSelfConnect(conn net.Conn) bool {
	self, _ := isSelfConnect(innermost(conn))
	return self
}

// innermost follows NetConn methods to the connection that has the socket. The
// bound is for a connection that returns itself.
func innermost(conn net.Conn) net.Conn {
	for range 16 {
		wrapper, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		inner := wrapper.NetConn()
		if inner == nil {
			break
		}
		conn = inner
	}
	return conn
}

// isSelfConnect fails where conn has a socket that does not tell its ends.
func isSelfConnect(conn net.Conn) (bool, error) {
	if conn == nil {
		return false, nil
	}
	if sc, ok := conn.(syscall.Conn); ok {
		raw, err := sc.SyscallConn()
		if err != nil {
			return false, err
		}
		local, peer, err := socketEnds(raw)
		if !errors.Is(err, errors.ErrUnsupported) {
			return err == nil && sameEnd(local, peer), err
		}
	}
	return sameEnd(addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr())), nil
}

// addrPort returns the address and port of a *net.TCPAddr, a *net.UDPAddr or
// another address that has them, and the zero AddrPort for the rest.
func addrPort(addr net.Addr) netip.AddrPort {
	switch addr := addr.(type) {
	case *net.TCPAddr:
		return addr.AddrPort()
	case *net.UDPAddr:
		return addr.AddrPort()
	case interface{ AddrPort() netip.AddrPort }:
		return addr.AddrPort()
	}
	return netip.AddrPort{}
}

// sameEnd reports whether local and peer, the two ends of one socket, are one.
// A peer without an address, or with the unspecified one, is the local system,
// where the kernel takes the socket's own address for the peer's (connect(2) to
// INADDR_ANY). Zones are not compared: an address that two links share would
// need a socket bound to the one to connect over the other, which Linux refuses.
func sameEnd(local, peer netip.AddrPort) bool {
	if local.Port() == 0 || local.Port() != peer.Port() {
		return false
	}
	if !peer.Addr().IsValid() || peer.Addr().Unmap().IsUnspecified() {
		return true
	}
	return local.Addr().Unmap().WithZone("") == peer.Addr().Unmap().WithZone("")
}
