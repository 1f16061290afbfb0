package nstest

import (
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// FullBacklog makes a listener on the port whose backlog is full, so that it answers
// no SYN.
func FullBacklog(t *testing.T, port int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port}))
	require.NoError(t, unix.Listen(fd, 0))
	fillBacklog(t, fd, net.IPv4(127, 0, 0, 1), port)
}

// FullBacklogIPv6 is FullBacklog for ::1.
func FullBacklogIPv6(t *testing.T, port int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 1))
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16(), Port: port}))
	require.NoError(t, unix.Listen(fd, 0))
	fillBacklog(t, fd, net.IPv6loopback, port)
}

// fillBacklog connects to the port of listener fd, whose backlog of 0 admits one
// connection: from the port above it, for one of the kernel's choice could be one that
// the test dials.
func fillBacklog(t *testing.T, fd int, ip net.IP, port int) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: ip, Port: port + 1}}
	conn, err := d.Dial("tcp", net.JoinHostPort(ip.String(), strconv.Itoa(port)))
	require.NoError(t, err)
	t.Cleanup(func() { Reset(conn) })
	require.Eventually(t, func() bool { // a listener's TCP_INFO has the length of the queue, and its limit
		info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
		return err == nil && info.Unacked > info.Sacked
	}, 10*time.Second, time.Millisecond, "the backlog does not fill")
}

// LongBacklog returns a function that makes a server at address whose backlog holds n
// connections, in place of the one before.
func LongBacklog(t *testing.T, address string, n int) func() string {
	t.Helper()
	// What a network namespace allows; before 6.7 one of a user namespace does not show it.
	require.LessOrEqual(t, n+100, 4096)
	var l net.Listener
	t.Cleanup(func() { l.Close() })
	return func() string {
		if l != nil {
			l.Close()
		}
		var err error
		l, err = net.Listen("tcp", address)
		require.NoError(t, err)
		require.NoError(t, OnSocket(RawConn(t, l), func(fd int) error { return unix.Listen(fd, n+100) }))
		return l.Addr().String()
	}
}
