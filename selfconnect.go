package safedial

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"syscall"
)

// ErrSelfConnect is the error of a dial whose socket was connected to itself: the
// kernel chose the destination's port as the local port, or LocalAddr is the
// destination, and the socket answered its own SYN by TCP's simultaneous open
// (RFC 9293, section 3.5). The connection has been discarded.
//
// No server accepted the connection, so an error that matches ErrSelfConnect also
// matches [syscall.ECONNREFUSED] (on Windows WSAECONNREFUSED too), and code that
// retries a refused dial needs no change. The Timeout method of the dial's
// *[net.OpError] reports false.
//
// Usually nothing listens at the destination. A dial from LocalAddr with the
// destination's own port can end in ErrSelfConnect even if a server listens there
// with SO_REUSEPORT, because the kernel finds the dialing socket first.
var ErrSelfConnect error = selfConnectError{}

type selfConnectError struct{}

func (selfConnectError) Error() string {
	return "connect: connection refused: socket connected to itself"
}

// Is reports whether target is the error of a refused connection.
func (selfConnectError) Is(target error) bool { return slices.Contains(connRefused, target) }

func (selfConnectError) Unwrap() error { return os.NewSyscallError("connect", connRefused[0]) }

// IsSelfConnect reports whether conn is connected to itself, so that it would read
// what is written to it. The connection need not have been dialed by safedial.
// IsSelfConnect unwraps connections that have a NetConn method, such as
// [crypto/tls.Conn]. It compares the addresses of the socket or, if there is no
// socket, those that conn reports. It reports false for nil, for closed
// connections, for networks other than TCP and UDP, and if the addresses are
// unknown.
//
// It may be called concurrently with the connection's methods.
func IsSelfConnect(conn net.Conn) bool {
	conn = innermost(conn)
	if isNil(conn) {
		return false
	}
	if sc, ok := conn.(syscall.Conn); ok {
		local, peer, err := askSocket(sc)
		if !errors.Is(err, errors.ErrUnsupported) {
			return err == nil && sameEndpoint(local, peer)
		}
	}
	return sameEndpoint(addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr()))
}

// innermost follows NetConn methods to the connection that has the socket. The
// bound is for a connection that returns itself.
func innermost(conn net.Conn) net.Conn {
	for range 16 {
		wrapper, ok := conn.(interface{ NetConn() net.Conn })
		if !ok || isNil(conn) {
			break
		}
		conn = wrapper.NetConn()
	}
	return conn
}

// isNil reports whether conn is nil or holds a nil pointer, whose methods may panic.
func isNil(conn net.Conn) bool {
	v := reflect.ValueOf(conn)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}

// askSocket asks the socket for its local address and its peer's.
func askSocket(conn syscall.Conn) (local, peer netip.AddrPort, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return local, peer, err
	}
	return socketAddrs(raw)
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

// sameEndpoint reports whether local and peer, the two ends of one socket, are the
// same. connect(2) takes the unspecified address as the host's own: 0.0.0.0 as the
// socket's address, "::" as the loopback address. A peer without an address stands for
// 0.0.0.0. Nobody connects to port 0: a UDP socket that was connected there has no peer.
// A group of hosts is not one endpoint. Zones are not compared, because Linux refuses to
// connect over one link from an address of another.
func sameEndpoint(local, peer netip.AddrPort) bool {
	if local.Port() == 0 || local.Port() != peer.Port() {
		return false
	}
	from, to := local.Addr().Unmap().WithZone(""), peer.Addr().Unmap().WithZone("")
	switch {
	case to.IsMulticast() || to == broadcast:
		return false
	case !to.IsValid() || to == netip.IPv4Unspecified():
		return true
	case to == netip.IPv6Unspecified():
		return from == netip.IPv6Loopback() || from == loopback4
	}
	return from == to
}

// meetsItself reports whether a socket that dials dest from local, or from anywhere, is
// connected to itself if its port is dest's. It is not known for other addresses of the host.
func meetsItself(local net.Addr, dest netip.Addr) bool {
	from, to := addrPort(local).Addr().Unmap(), dest.Unmap().WithZone("")
	if from.IsValid() && !from.IsUnspecified() {
		return from == to
	}
	return to == loopback4 || to == netip.IPv6Loopback() || to.IsUnspecified()
}

var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})
)
