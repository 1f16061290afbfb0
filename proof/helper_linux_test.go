package proof

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// onlyPort is the local port range of tests in which a self-connection is certain.
const onlyPort = 40000

// isolated runs body in a namespace of its own, beside other tests, as on a kernel
// that lacks these options of IPPROTO_IP.
func isolated(t *testing.T, body func(t *testing.T), lacking ...uint32) {
	t.Helper()
	t.Parallel()
	nstest.Run(t, func(t *testing.T) {
		if len(lacking) > 0 {
			skipPortable(t, "the library uses no options of IPPROTO_IP")
			nstest.WithoutOptions(t, lacking...)
		}
		body(t)
	})
}

// skipPortable skips the test where the library is that of other systems, for which
// something else is promised.
func skipPortable(t *testing.T, promise string) {
	t.Helper()
	if portable {
		t.Skip("elsewhere than on Linux " + promise)
	}
}

// shorter returns d, or with -short an eighth of it.
func shorter(d time.Duration) time.Duration {
	if testing.Short() {
		return d / 8
	}
	return d
}

// requirePortRange skips the test if the kernel, or the library, has no
// IP_LOCAL_PORT_RANGE.
func requirePortRange(t *testing.T, promise string) {
	t.Helper()
	skipPortable(t, "the library does not use IP_LOCAL_PORT_RANGE")
	nstest.RequirePortRange(t, promise)
}

type (
	dialFunc    = func(network, address string) (net.Conn, error)
	controlFunc = func(network, address string, c syscall.RawConn) error
)

// dialsOf are Dialer's Dial, and NetDialer's, if it is checked.
func dialsOf(d *safedial.Dialer) map[string]dialFunc {
	dials := map[string]dialFunc{"Dialer": d.Dial}
	if !portable {
		dials["NetDialer"] = func(network, address string) (net.Conn, error) { return d.NetDialer().Dial(network, address) }
	}
	return dials
}

// tcp and udp return an address to dial from. Without an IP it is the unspecified one.
func tcp(ip string, port int) *net.TCPAddr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: port} }

func udp(ip string, port int) *net.UDPAddr { return (*net.UDPAddr)(tcp(ip, port)) }

// onSocket returns a hook of the caller's that runs f on the socket.
func onSocket(f func(fd int) error) controlFunc {
	return func(_, _ string, c syscall.RawConn) error { return nstest.OnSocket(c, f) }
}

// optionOf returns an option of the connection's socket.
func optionOf(t *testing.T, conn net.Conn, level, option int) (value int) {
	t.Helper()
	require.NoError(t, nstest.OnSocket(nstest.RawConn(t, conn), func(fd int) (err error) {
		value, err = unix.GetsockoptInt(fd, level, option)
		return err
	}))
	return value
}

// countSelf returns an OnRetry that counts self-connections.
func countSelf(n *atomic.Int64) func(context.Context, safedial.Retry) {
	return func(_ context.Context, r safedial.Retry) {
		if errors.Is(r.Err, safedial.ErrSelfConnect) {
			n.Add(1)
		}
	}
}

// notRetried returns an OnRetry that fails the test.
func notRetried(t *testing.T) func(context.Context, safedial.Retry) {
	return func(_ context.Context, r safedial.Retry) { t.Errorf("retried: %+v", r) }
}

// ports returns the range of ports from low to high.
func ports(low, high uint16) safedial.PortRange { return safedial.PortRange{Low: low, High: high} }

// setLocalPorts sets the namespace's local port range, and has the library read it.
func setLocalPorts(t *testing.T, low, high uint16) {
	t.Helper()
	if portable {
		nstest.SetLocalPorts(t, low, high)
		return
	}
	nstest.WriteLocalPorts(t, low, high)
	readPorts(t)
}

// setReservedPorts sets the ports that the kernel must not choose, such as
// "40000,40002-40004", and has the library read them.
func setReservedPorts(t *testing.T, ports string) {
	t.Helper()
	nstest.Sysctl(t, nstest.ReservedPortsFile, ports+"\n")
	readPorts(t)
}

// readPorts has the library read the namespace's ports anew, which it does to say why a
// dial that allows none of them fails.
func readPorts(t *testing.T) {
	t.Helper()
	system, err := safedial.LocalPortRange()
	require.NoError(t, err)
	d := safedial.Dialer{LocalPorts: ports(1, 1)}
	_, err = d.Dial("tcp", "127.0.0.1:9")
	require.ErrorContains(t, err, "local ports 1: none in the local port range "+system.String())
}

// takePorts sets the local port range, and connects to address from each port of it,
// until the test ends or release is called. A port that a server has is left to it.
func takePorts(t *testing.T, address string, low, high uint16) (release func()) {
	t.Helper()
	setLocalPorts(t, low, high)
	var conns []net.Conn
	for port := low; port <= high; port++ {
		d := net.Dialer{LocalAddr: tcp("127.0.0.1", int(port))}
		conn, err := d.Dial("tcp", address)
		const listening = " 0A "
		if errors.Is(err, syscall.EADDRINUSE) && strings.Contains(strings.Join(nstest.SocketsOn(t, port), ""), listening) {
			continue // a server has it
		}
		require.NoError(t, err, "port %d is not free, although no server has it", port)
		conns = append(conns, conn)
	}
	release = func() {
		for _, conn := range conns {
			nstest.Reset(conn)
		}
		setLocalPorts(t, 32768, 60999)
	}
	t.Cleanup(release)
	return release
}

// takeUDPPorts binds the ports from low to high, until the test ends.
func takeUDPPorts(t *testing.T, low, high uint16) (taken []net.PacketConn) {
	t.Helper()
	for port := low; port <= high; port++ {
		packets, err := net.ListenPacket("udp", udp("", int(port)).String())
		require.NoError(t, err)
		t.Cleanup(func() { packets.Close() })
		taken = append(taken, packets)
	}
	return taken
}

// assertRefused asserts that err is a self-connection. Elsewhere than on Linux UDP may
// have found no port instead, while the socket that met itself was kept.
func assertRefused(t *testing.T, err error, network string, msg ...any) {
	t.Helper()
	if portable && strings.HasPrefix(network, "udp") && noPort(err) {
		return
	}
	assert.ErrorIs(t, err, safedial.ErrSelfConnect, msg...)
	assert.ErrorIs(t, err, syscall.ECONNREFUSED, msg...)
}

// noPort reports whether err is that no local port was found: connect(2)'s
// EADDRNOTAVAIL or EAGAIN, or bind(2)'s EADDRINUSE.
func noPort(err error) bool {
	return slices.ContainsFunc(
		[]error{syscall.EADDRNOTAVAIL, syscall.EADDRINUSE, syscall.EAGAIN},
		func(errno error) bool { return errors.Is(err, errno) },
	)
}

// portOf returns the local port of a connection.
func portOf(conn net.Conn) uint16 { return nstest.AddrPort(conn.LocalAddr()).Port() }

// orUnspecified returns addr, with the unspecified address if it has no IP.
func orUnspecified(addr *net.TCPAddr) netip.AddrPort {
	if addr != nil && len(addr.IP) == 0 {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(addr.Port))
	}
	return addr.AddrPort()
}

// bindControl returns a hook that binds the socket to port 9999 of host.
func bindControl(host string) controlFunc {
	return func(network, _ string, c syscall.RawConn) error {
		return nstest.OnSocket(c, func(fd int) error {
			return os.NewSyscallError("bind", nstest.BindTo(fd, network, host, 9999))
		})
	}
}

// hideSysctls hides /proc/sys, as systemd's ProcSubset=pid does.
func hideSysctls(t *testing.T) {
	t.Helper()
	require.NoError(t, unix.Mount("none", "/proc/sys", "tmpfs", 0, ""))
}

// ended closes a connection, and returns whether it was connected to itself, and the
// text of the dial's error.
func ended(conn net.Conn, err error) (isSelf bool, text string) {
	if err != nil {
		return false, err.Error()
	}
	defer nstest.Reset(conn)
	return safedial.IsSelfConnect(conn), ""
}
