package proof

import (
	"fmt"
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

func TestDialTimeoutExpires(t *testing.T) {
	_, err := safedial.DialTimeout("tcp", "127.0.0.1:9", -1)
	var netErr net.Error
	require.ErrorAs(t, err, &netErr)
	assert.True(t, netErr.Timeout())
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

// TestInvalidAddresses holds DialTCP, DialUDP and DialIP to net's functions of these
// names with nil for each address that is not valid: from Go 1.27 on net.Dialer's
// methods do as much. Each tries one address.
func TestInvalidAddresses(t *testing.T) {
	local := []netip.AddrPort{{}, netip.AddrPortFrom(netip.Addr{}, 9999), netip.MustParseAddrPort("127.0.0.1:0")}
	remote := []netip.AddrPort{
		{},
		netip.AddrPortFrom(netip.Addr{}, 9),
		netip.MustParseAddrPort("127.0.0.1:9"), netip.MustParseAddrPort("0.0.0.0:9"), netip.MustParseAddrPort("[::ffff:127.0.0.1]:9"),
		netip.MustParseAddrPort("[::1]:9"), netip.MustParseAddrPort("[::]:9"),
	}
	for name, dials := range map[string]struct {
		networks []string
		net      func(network string, laddr, raddr netip.AddrPort) (net.Conn, error)
		ours     func(d *safedial.Dialer, network string, laddr, raddr netip.AddrPort) (net.Conn, error)
	}{
		"TCP": {
			[]string{"tcp", "tcp4", "tcp6", "udp", ""},
			func(network string, laddr, raddr netip.AddrPort) (net.Conn, error) {
				return nstest.NetConn(net.DialTCP(network, validOrNil(laddr), validOrNil(raddr)))
			},
			func(d *safedial.Dialer, network string, laddr, raddr netip.AddrPort) (net.Conn, error) {
				return nstest.NetConn(d.DialTCP(t.Context(), network, laddr, raddr))
			},
		},
		"UDP": {
			[]string{"udp", "udp4", "udp6", "tcp", ""},
			func(network string, laddr, raddr netip.AddrPort) (net.Conn, error) {
				return nstest.NetConn(net.DialUDP(network, (*net.UDPAddr)(validOrNil(laddr)), (*net.UDPAddr)(validOrNil(raddr))))
			},
			func(d *safedial.Dialer, network string, laddr, raddr netip.AddrPort) (net.Conn, error) {
				return nstest.NetConn(d.DialUDP(t.Context(), network, laddr, raddr))
			},
		},
		"IP": {
			[]string{"ip:1", "ip4:1", "ip6:1", "ip", "tcp", ""},
			func(network string, laddr, raddr netip.AddrPort) (net.Conn, error) {
				return nstest.NetConn(net.DialIP(network, ipOrNil(laddr), ipOrNil(raddr)))
			},
			func(d *safedial.Dialer, network string, laddr, raddr netip.AddrPort) (net.Conn, error) {
				return nstest.NetConn(d.DialIP(t.Context(), network, laddr.Addr(), raddr.Addr()))
			},
		},
	} {
		for _, network := range dials.networks {
			for _, laddr := range local {
				for _, raddr := range remote {
					t.Run(fmt.Sprintf("%s on %q from %s to %s", name, network, laddr, raddr), func(t *testing.T) {
						var tried []string
						d := safedial.Dialer{MaxRetries: -1, Control: func(_, address string, _ syscall.RawConn) error {
							tried = append(tried, address)
							return nil
						}}
						want, wantErr := dials.net(network, laddr, raddr)
						got, err := dials.ours(&d, network, laddr, raddr)
						assert.Equal(t, wantErr, err, "net of %s: %v\nsafedial: %v", runtime.Version(), wantErr, err)
						assert.Equal(t, peer(want), peer(got), "the peer")
						assert.LessOrEqual(t, len(slices.Compact(tried)), 1, "%v", tried)
					})
				}
			}
		}
	}
}

// TestCancelLeavesNoGoroutine uses the deprecated channel, on which net.Dialer
// of Go 1.26 leaves a goroutine waiting (https://go.dev/issue/78531).
func TestCancelLeavesNoGoroutine(t *testing.T) {
	l := nstest.Serve(t, "tcp", "127.0.0.1:0")
	d := safedial.Dialer{Cancel: make(chan struct{}), Timeout: time.Minute} //lint:ignore SA1019 net.Dialer has it too
	before := runtime.NumGoroutine()
	for range 50 {
		conn, err := d.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		nstest.AssertReal(t, conn)
	}
	assert.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.LessOrEqual(c, runtime.NumGoroutine(), before+5)
	}, 10*time.Second, time.Millisecond)
}

func TestDialTarget(t *testing.T) {
	var d safedial.Dialer
	dir := t.TempDir()
	t.Chdir(dir)
	nstest.Serve(t, "unix", filepath.Join(dir, "socket"))
	l := nstest.Serve(t, "tcp", "127.0.0.1:0")
	targets := []string{l.Addr().String(), "unix:socket", "unix:" + dir + "/socket", "unix://" + dir + "/socket"}
	if runtime.GOOS == "linux" {
		nstest.Serve(t, "unix", "@safedial"+filepath.Base(dir))
		name := "safedial" + filepath.Base(dir)
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
