package proof

import (
	"context"
	"fmt"
	"go/build"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// A dialer is what net.Dialer and Dialer have in common.
type dialer interface {
	Dial(network, address string) (net.Conn, error)
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	DialTCP(ctx context.Context, network string, laddr, raddr netip.AddrPort) (*net.TCPConn, error)
	DialUDP(ctx context.Context, network string, laddr, raddr netip.AddrPort) (*net.UDPConn, error)
	DialIP(ctx context.Context, network string, laddr, raddr netip.Addr) (*net.IPConn, error)
	DialUnix(ctx context.Context, network string, laddr, raddr *net.UnixAddr) (*net.UnixConn, error)
	MultipathTCP() bool
	SetMultipathTCP(use bool)
}

var (
	_ dialer = (*net.Dialer)(nil)
	_ dialer = (*safedial.Dialer)(nil)
)

func TestEveryWayIn(t *testing.T) {
	l := nstest.Serve(t, "tcp", "127.0.0.1:0")
	address, tcpAddr := l.Addr().String(), l.Addr().(*net.TCPAddr)
	ctx := t.Context()
	var d safedial.Dialer
	for name, dial := range map[string]func() (net.Conn, error){
		"Dial":                  func() (net.Conn, error) { return safedial.Dial("tcp", address) },
		"DialTimeout":           func() (net.Conn, error) { return safedial.DialTimeout("tcp", address, time.Minute) },
		"DialContext":           func() (net.Conn, error) { return safedial.DialContext(ctx, "tcp", address) },
		"DialTCP":               func() (net.Conn, error) { return nstest.NetConn(safedial.DialTCP("tcp", nil, tcpAddr)) },
		"DialTCP from anywhere": func() (net.Conn, error) { return nstest.NetConn(safedial.DialTCP("tcp4", &net.TCPAddr{}, tcpAddr)) },
		"Dialer.Dial":           func() (net.Conn, error) { return d.Dial("tcp", address) },
		"Dialer.DialContext":    func() (net.Conn, error) { return d.DialContext(ctx, "tcp4", address) },
		"Dialer.DialTCP": func() (net.Conn, error) {
			return nstest.NetConn(d.DialTCP(ctx, "tcp", netip.AddrPort{}, tcpAddr.AddrPort()))
		},
		"NetDialer": func() (net.Conn, error) { return d.NetDialer().DialContext(ctx, "tcp", address) },
		"NetDialer from an address": func() (net.Conn, error) {
			from := safedial.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}
			return from.NetDialer().Dial("tcp", address)
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := dial()
			require.NoError(t, err)
			assert.IsType(t, (*net.TCPConn)(nil), conn)
			nstest.AssertReal(t, conn)
		})
	}
}

// TestDialTCPBadInput has net's own errors for what net.DialTCP refuses, and for what
// is refused at an address without an IP.
func TestDialTCPBadInput(t *testing.T) {
	here := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}
	for name, c := range map[string]struct {
		network      string
		laddr, raddr *net.TCPAddr
	}{
		"no remote address":         {"tcp", nil, nil},
		"no remote, but a local":    {"tcp", here, nil},
		"unknown network":           {"udp", nil, here},
		"no network":                {"", nil, here},
		"IP of no length":           {"tcp", nil, &net.TCPAddr{IP: net.IP{1, 2, 3}, Port: 9}},
		"local IP of no length":     {"tcp", &net.TCPAddr{IP: net.IP{1, 2, 3}}, here},
		"IPv6 on tcp4":              {"tcp4", nil, &net.TCPAddr{IP: net.IPv6loopback, Port: 9}},
		"no network, local address": {"", here, here},
		"no remote IP":              {"tcp", nil, &net.TCPAddr{Port: 9}},
		"no IPs":                    {"tcp", &net.TCPAddr{}, &net.TCPAddr{Port: 9}},
		"no local IP":               {"tcp4", &net.TCPAddr{}, here},
		"negative local port":       {"tcp", &net.TCPAddr{Port: -1}, here},
		"local port too high":       {"tcp", &net.TCPAddr{IP: here.IP, Port: 70000}, here},
		"negative port":             {"tcp", nil, &net.TCPAddr{Port: -1}},
		"port too high":             {"tcp", nil, &net.TCPAddr{IP: here.IP, Port: 65536}},
	} {
		t.Run(name, func(t *testing.T) {
			want, wantErr := net.DialTCP(c.network, c.laddr, c.raddr)
			require.Nil(t, want)
			got, err := safedial.DialTCP(c.network, c.laddr, c.raddr)
			assert.Nil(t, got)
			require.Error(t, err)
			assert.Equal(t, wantErr, err)
		})
	}
}

// invalidAddressDials are net's functions, and the methods of these names.
var invalidAddressDials = map[string]struct {
	networks []string
	net      func(network string, laddr, raddr netip.AddrPort) (net.Conn, error)
	method   func(ctx context.Context, d dialer, network string, laddr, raddr netip.AddrPort) (net.Conn, error)
}{
	"TCP": {
		[]string{"tcp", "tcp4", "tcp6", "udp", ""},
		func(network string, laddr, raddr netip.AddrPort) (net.Conn, error) {
			return nstest.NetConn(net.DialTCP(network, validOrNil(laddr), validOrNil(raddr)))
		},
		func(ctx context.Context, d dialer, network string, laddr, raddr netip.AddrPort) (net.Conn, error) {
			return nstest.NetConn(d.DialTCP(ctx, network, laddr, raddr))
		},
	},
	"UDP": {
		[]string{"udp", "udp4", "udp6", "tcp", ""},
		func(network string, laddr, raddr netip.AddrPort) (net.Conn, error) {
			return nstest.NetConn(net.DialUDP(network, (*net.UDPAddr)(validOrNil(laddr)), (*net.UDPAddr)(validOrNil(raddr))))
		},
		func(ctx context.Context, d dialer, network string, laddr, raddr netip.AddrPort) (net.Conn, error) {
			return nstest.NetConn(d.DialUDP(ctx, network, laddr, raddr))
		},
	},
	"IP": {
		[]string{"ip:1", "ip4:1", "ip6:1", "ip", "tcp", ""},
		func(network string, laddr, raddr netip.AddrPort) (net.Conn, error) {
			return nstest.NetConn(net.DialIP(network, ipOrNil(laddr), ipOrNil(raddr)))
		},
		func(ctx context.Context, d dialer, network string, laddr, raddr netip.AddrPort) (net.Conn, error) {
			return nstest.NetConn(d.DialIP(ctx, network, laddr.Addr(), raddr.Addr()))
		},
	},
}

// TestInvalidAddresses compares DialTCP, DialUDP and DialIP to net's functions of these
// names with nil for each address that is not valid: from Go 1.27 on net.Dialer's
// methods do as much (https://go.dev/issue/81620). Each tries one address.
func TestInvalidAddresses(t *testing.T) {
	local := []netip.AddrPort{{}, netip.AddrPortFrom(netip.Addr{}, 9999), netip.MustParseAddrPort("127.0.0.1:0")}
	remote := []netip.AddrPort{{}, netip.AddrPortFrom(netip.Addr{}, 9)}
	for _, address := range []string{"127.0.0.1:9", "0.0.0.0:9", "[::ffff:127.0.0.1]:9", "[::1]:9", "[::]:9"} {
		remote = append(remote, netip.MustParseAddrPort(address))
	}
	for name, dials := range invalidAddressDials {
		for _, network := range dials.networks {
			for _, laddr := range local {
				for _, raddr := range remote {
					t.Run(fmt.Sprintf("%s on %q from %s to %s", name, network, laddr, raddr), func(t *testing.T) {
						var tried []string
						d := safedial.Dialer{MaxRetries: -1, Control: func(_, address string, _ syscall.RawConn) error {
							tried = append(tried, address)
							return nil
						}}
						got, err := dials.method(t.Context(), &d, network, laddr, raddr)
						to := peer(got)
						assert.LessOrEqual(t, len(slices.Compact(tried)), 1, "%v", tried)
						want, wantErr := dials.net(network, laddr, raddr)
						assert.Equal(t, wantErr, err, "net of %s: %v\nsafedial: %v", runtime.Version(), wantErr, err)
						assert.Equal(t, peer(want), to, "the peer")
						if slices.Contains(build.Default.ReleaseTags, "go1.27") {
							want, wantErr = dials.method(t.Context(), new(net.Dialer), network, laddr, raddr)
							assert.Equal(t, wantErr, err, "net.Dialer of %s: %v\nsafedial: %v", runtime.Version(), wantErr, err)
							assert.Equal(t, peer(want), to, "the peer")
						}
					})
				}
			}
		}
	}
}

// TestCancelLeavesNoGoroutine uses the deprecated channel, on which net.Dialer of Go
// 1.26 leaves a goroutine waiting (https://go.dev/issue/78531). It is read when a dial
// begins, and not again.
func TestCancelLeavesNoGoroutine(t *testing.T) {
	l := nstest.Serve(t, "tcp", "127.0.0.1:0")
	d := safedial.Dialer{Timeout: time.Minute}
	before := runtime.NumGoroutine()
	for range 100 {
		d.Cancel = make(chan struct{}) //nolint:staticcheck // SA1019: net.Dialer has it too
		conn, err := d.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		nstest.AssertReal(t, conn)
	}
	assert.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.LessOrEqual(c, runtime.NumGoroutine(), before+5)
	}, 10*time.Second, time.Millisecond)

	closed := make(chan struct{})
	close(closed)
	d.Cancel = closed //nolint:staticcheck // SA1019: net.Dialer has it too
	_, err := d.Dial("tcp", l.Addr().String())
	assert.ErrorIs(t, err, context.Canceled)
}

func TestDialTarget(t *testing.T) {
	var d safedial.Dialer
	dir := t.TempDir()
	t.Chdir(dir)
	nstest.Serve(t, "unix", filepath.Join(dir, "socket"))
	l := nstest.Serve(t, "tcp", "127.0.0.1:0")
	targets := []string{l.Addr().String(), "unix:socket", "unix:" + dir + "/socket", "unix://" + dir + "/socket"}
	if runtime.GOOS == "linux" {
		name := fmt.Sprintf("safedial%d", os.Getpid())
		nstest.Serve(t, "unix", "@"+name)
		targets = append(targets, "unix-abstract:"+name, "unix:@"+name, "\x00"+name)
	}
	for _, target := range targets {
		conn, err := d.DialTarget(t.Context(), target)
		if assert.NoError(t, err, "%q", target) {
			nstest.AssertReal(t, conn, "%q", target)
		}
	}
}

func TestDialTargetErrors(t *testing.T) {
	var d safedial.Dialer
	_, err := d.DialTarget(t.Context(), "unix:"+filepath.Join(t.TempDir(), "absent"))
	assert.ErrorIs(t, err, os.ErrNotExist)
	for _, target := range []string{"", "127.0.0.1", "unix"} {
		conn, err := d.DialTarget(t.Context(), target)
		assert.Nil(t, conn)
		var op *net.OpError
		require.ErrorAs(t, err, &op, "%q", target)
		assert.Equal(t, "dial", op.Op)
	}
}

// peer returns where conn, unless nil, leads to, and closes it.
func peer(conn net.Conn) string {
	if conn == nil {
		return ""
	}
	conn.Close()
	return conn.RemoteAddr().String()
}

func validOrNil(ap netip.AddrPort) *net.TCPAddr {
	if !ap.IsValid() {
		return nil
	}
	return net.TCPAddrFromAddrPort(ap)
}

func ipOrNil(ap netip.AddrPort) *net.IPAddr {
	if !ap.IsValid() {
		return nil
	}
	return &net.IPAddr{IP: ap.Addr().AsSlice()}
}
