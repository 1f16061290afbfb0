package safedial

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// silence makes a listener on the port whose backlog is full, so that it answers
// no SYN.
func silence(t *testing.T, port int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port}))
	require.NoError(t, unix.Listen(fd, 0))
	fillBacklog(t, fmt.Sprintf("127.0.0.1:%d", port))
}

// silentIPv6 is silence for ::1.
func silentIPv6(t *testing.T, port int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 1))
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16(), Port: port}))
	require.NoError(t, unix.Listen(fd, 0))
	fillBacklog(t, fmt.Sprintf("[::1]:%d", port))
}

// fillBacklog connects to address until nobody answers.
func fillBacklog(t *testing.T, address string) {
	t.Helper()
	d := net.Dialer{Timeout: 100 * time.Millisecond}
	for range 8 {
		conn, err := d.Dial("tcp", address)
		if err != nil {
			require.True(t, os.IsTimeout(err), "%v", err)
			return
		}
		t.Cleanup(func() { hangUp(conn) })
	}
	t.Fatal("the backlog does not fill")
}
