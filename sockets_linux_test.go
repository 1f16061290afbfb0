package safedial

import (
	"net/netip"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// onSocket runs f on the socket.
func onSocket(c syscall.RawConn, f func(fd int) error) error {
	var err error
	if ctrlErr := c.Control(func(fd uintptr) { err = f(int(fd)) }); ctrlErr != nil {
		return ctrlErr
	}
	return err
}

// rawConn returns the socket of a connection or a listener.
func rawConn(t *testing.T, conn any) syscall.RawConn {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	return raw
}

// bindTo binds the socket to ip, or to the loopback address of its family where
// ip is of the other one, as on the second leg of "localhost" and "::".
func bindTo(fd int, network, ip string, port uint16) error {
	addr := netip.MustParseAddr(ip)
	if network == "tcp6" {
		if addr.Is4() {
			addr = netip.IPv6Loopback()
		}
		return unix.Bind(fd, &unix.SockaddrInet6{Port: int(port), Addr: addr.As16()})
	}
	if addr.Is6() {
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return unix.Bind(fd, &unix.SockaddrInet4{Port: int(port), Addr: addr.As4()})
}
