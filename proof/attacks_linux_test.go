package proof

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/safedial/safedial"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

// zonedHosts are IPv4 addresses and "::" with a zone, which net ignores.
var zonedHosts = []string{"::ffff:127.0.0.1%lo", "::ffff:0.0.0.0%lo", "::%lo", "::ffff:127.0.0.1%lo:1"}

// TestZonesNeverSelfConnect dials them while their port is the only one.
func TestZonesNeverSelfConnect(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, onlyPort, onlyPort)
		for _, host := range zonedHosts {
			for _, network := range []string{"tcp", "udp"} {
				for name, dial := range dialsOf(new(safedial.Dialer)) {
					conn, err := dial(network, net.JoinHostPort(host, "40000"))
					require.Nil(t, conn, "%s %s %s", name, network, host)
					assertRefused(t, err, network, "%s %s %s", name, network, host)
					nstest.RequireFree(t, onlyPort, "%s %s %s", name, network, host)
				}
			}
		}
		remote := netip.AddrPortFrom(netip.MustParseAddr("::ffff:127.0.0.1%lo"), onlyPort)
		_, err := new(safedial.Dialer).DialTCP(t.Context(), "tcp", netip.AddrPort{}, remote)
		assert.ErrorIs(t, err, safedial.ErrSelfConnect)
		_, err = new(safedial.Dialer).DialUDP(t.Context(), "udp", netip.AddrPort{}, remote)
		assertRefused(t, err, "udp")
		nstest.RequireFree(t, onlyPort)
	})
}

// TestLocalPortsHoldForZones dials from LocalPorts to such hosts.
func TestLocalPortsHoldForZones(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		requirePortRange(t)
		nstest.SetLocalPorts(t, 40000, 40099)
		nstest.Serve(t, "tcp", ":9000")
		ports := ports(40050, 40052)
		for _, host := range zonedHosts {
			for name, dial := range dialsOf(&safedial.Dialer{LocalPorts: ports}) {
				conn, err := dial("tcp", net.JoinHostPort(host, "9000"))
				require.NoError(t, err, "%s %s", name, host)
				assert.True(t, ports.Contains(nstest.AddrPort(conn.LocalAddr()).Port()), "%s %s: %s", name, host, conn.LocalAddr())
				nstest.Reset(conn)
			}
		}
	})
}

// TestAddressWithoutSourceIsDialedOnce has a name whose first address fails for
// good, because IPv6 is off: that costs the others nothing.
func TestAddressWithoutSourceIsDialedOnce(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.Sysctl(t, "/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")
		accepted := countAccepts(t, "127.0.0.1:9000")
		nstest.FullBacklog(t, 9010)
		var lookups atomic.Int32
		resolver := nstest.Zone{"both.test": {netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")}}.Resolver(t)
		inner := resolver.Dial
		resolver.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			lookups.Add(1)
			return inner(ctx, network, address)
		}
		for _, delay := range []time.Duration{10 * time.Millisecond, -1} {
			lookups.Store(0)
			d := safedial.Dialer{Resolver: resolver, FallbackDelay: delay}
			conn, err := d.Dial("tcp", "both.test:9000")
			require.NoError(t, err)
			conn.Close()
			assert.EqualValues(t, 2, lookups.Load(), "an A and an AAAA question")

			var mu sync.Mutex
			calls := map[string]int{}
			d = safedial.Dialer{Resolver: resolver, FallbackDelay: delay, MaxRetries: 20, Timeout: 300 * time.Millisecond}
			d.Control = func(network, _ string, _ syscall.RawConn) error {
				mu.Lock()
				defer mu.Unlock()
				calls[network]++
				return nil
			}
			start := time.Now()
			_, err = d.Dial("tcp", "both.test:9010")
			var dnsErr *net.DNSError
			require.Error(t, err)
			assert.False(t, errors.As(err, &dnsErr), "%v", err)
			assert.Less(t, time.Since(start), 3*d.Timeout)
			mu.Lock()
			if delay > 0 { // else the silent address takes all of the time
				assert.Equal(t, map[string]int{"tcp4": 1, "tcp6": 3}, calls, "no pause for an address without a source")
			}
			mu.Unlock()
		}
		assert.EqualValues(t, 2, accepted(), "each dial reaches the good address once")
	})
}

// TestContextEndsDuringRetries: after the end no attempt is made, no retry is
// reported, and the error is the dial's own.
func TestContextEndsDuringRetries(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.Hosts(t, nstest.IPv4Localhost)
		nstest.Serve(t, "tcp", "127.0.0.1:40000")
		takeAllPorts(t, "127.0.0.1:40000", ports(40001, 40003))
		for name, local := range map[string]net.Addr{"kernel's choice": nil, "LocalAddr IP:0": &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}} {
			ctx, cancel := context.WithCancel(t.Context())
			calls := 0
			d := safedial.Dialer{
				LocalAddr: local, MaxRetries: 50,
				Control: func(string, string, syscall.RawConn) error { calls++; cancel(); return nil },
				OnRetry: func(_ context.Context, r safedial.Retry) { t.Errorf("%s: retried after the end: %v", name, r) },
			}
			_, err := d.DialContext(ctx, "tcp", "localhost:40000")
			assert.True(t, noPort(err), "%s: %v", name, err)
			assert.LessOrEqual(t, calls, socketsPerDial, name)
		}
		for name, d := range map[string]safedial.Dialer{"tcp": {}, "udp": {}} {
			d.MaxRetries, d.Timeout = 1000, 500*time.Millisecond // which a look-up on a slow machine leaves time of
			var late atomic.Bool
			d.OnRetry = func(ctx context.Context, _ safedial.Retry) { late.Store(late.Load() || ctx.Err() != nil) }
			if name == "udp" {
				takeAllUDPPorts(t, ports(40001, 40003))
			}
			var err error
			for range 5 {
				start := time.Now()
				_, err = d.Dial(name, "localhost:40000")
				assert.GreaterOrEqual(t, time.Since(start), d.Timeout, name)
				if !noPort(err) {
					break
				} // else the time was up while the system searched a port
			}
			assert.EqualError(t, err, "dial "+name+" 127.0.0.1:40000: i/o timeout")
			assert.False(t, late.Load(), "%s: OnRetry after the end", name)
		}
	})
}

// TestCallersLingering: a hook that makes the socket linger blocks no port, and a
// connection lingers as the hook said.
func TestCallersLingering(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		for _, seconds := range []int32{0, 5} {
			for name, local := range map[string]*net.TCPAddr{"kernel's choice": nil, "IP:0": {IP: net.IPv4(127, 0, 0, 1)}, "zero": {}, "own port": {IP: net.IPv4(127, 0, 0, 1), Port: onlyPort}} {
				d := safedial.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
					return nstest.OnSocket(c, func(fd int) error {
						return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: seconds})
					})
				}}
				if local != nil {
					d.LocalAddr = local
				}
				nstest.SetLocalPorts(t, onlyPort, onlyPort)
				for kind, dial := range dialsOf(&d) {
					_, err := dial("tcp", "127.0.0.1:40000")
					require.ErrorIs(t, err, safedial.ErrSelfConnect, "%s, %s", name, kind)
					nstest.RequireFree(t, onlyPort, "%s, %s", name, kind)
				}
				if name == "own port" {
					continue
				}
				nstest.SetLocalPorts(t, 40000, 40003)
				l := nstest.Serve(t, "tcp", "127.0.0.1:40000")
				for kind, dial := range dialsOf(&d) {
					conn, err := dial("tcp", "127.0.0.1:40000")
					require.NoError(t, err, "%s, %s", name, kind)
					require.NoError(t, nstest.OnSocket(nstest.RawConn(t, conn), func(fd int) error {
						linger, err := unix.GetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER)
						assert.Equal(t, &unix.Linger{Onoff: 1, Linger: seconds}, linger, "%s, %s", name, kind)
						return err
					}))
					nstest.Reset(conn)
				}
				l.Close()
			}
		}
	})
}

// TestBadLocalAddr: what net refuses to bind is refused in net's words, and never
// cut to something else.
func TestBadLocalAddr(t *testing.T) {
	nstest.Serve(t, "tcp", "127.0.0.1:0")
	here := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}
	for _, ip := range []net.IP{nil, {127, 0, 0, 1}, {1, 2, 3}, net.IPv6loopback} {
		for _, port := range []int{-1, 65536, 70000, 0} {
			if port == 0 && len(ip) != 3 {
				continue
			}
			for network, local := range map[string]net.Addr{"tcp": &net.TCPAddr{IP: ip, Port: port}, "udp": &net.UDPAddr{IP: ip, Port: port}} {
				_, want := (&net.Dialer{LocalAddr: local}).Dial(network, here.String())
				require.Error(t, want)
				_, err := (&safedial.Dialer{LocalAddr: local}).Dial(network, here.String())
				assert.Equal(t, want, err, "%s from %s", network, local)
				_, err = (&safedial.Dialer{LocalAddr: local}).NetDialer().Dial(network, here.String())
				assert.EqualError(t, err, want.Error(), "%s from %s", network, local)
			}
			_, want := net.DialTCP("tcp", &net.TCPAddr{IP: ip, Port: port}, here)
			_, err := safedial.DialTCP("tcp", &net.TCPAddr{IP: ip, Port: port}, here)
			assert.Equal(t, want, err)
			_, want = net.DialTCP("tcp", nil, &net.TCPAddr{IP: ip, Port: port})
			_, err = safedial.DialTCP("tcp", nil, &net.TCPAddr{IP: ip, Port: port})
			assert.Equal(t, want, err)
		}
	}
}

// TestUDPGroupsAreNotSelfConnections: neither a port 0, nor a multicast or broadcast
// address, nor "::" is the socket's own, whatever its port.
func TestUDPGroupsAreNotSelfConnections(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		ip(t, "route", "add", "default", "dev", "lo")
		for _, address := range []string{"127.0.0.1:0", "224.0.0.1:40000", "255.255.255.255:40000", "[::]:40000"} {
			for _, local := range []*net.UDPAddr{nil, {Port: 40000}, {IP: net.ParseIP(nstest.OwnAddress), Port: 40000}} {
				plain, d := net.Dialer{}, safedial.Dialer{}
				if local != nil {
					plain.LocalAddr, d.LocalAddr = local, local
				}
				conn, want := plain.Dial("udp", address)
				if want == nil {
					if safedial.IsSelfConnect(conn) {
						want = safedial.ErrSelfConnect
					}
					conn.Close()
				}
				for kind, dial := range dialsOf(&d) {
					conn, err := dial("udp", address)
					if want == nil {
						if assert.NoError(t, err, "%s %s from %s", kind, address, local) {
							conn.Close()
						}
						continue
					}
					assert.Error(t, err, "%s %s from %s: net says %v", kind, address, local, want)
				}
			}
		}
	})
}

// TestMultipathHasNoReuseAddr: an MPTCP socket without IP_LOCAL_PORT_RANGE comes back
// with SO_REUSEADDR as net.Dialer's, off.
func TestMultipathHasNoReuseAddr(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		withoutOptions(t, unix.IP_LOCAL_PORT_RANGE)
		nstest.SetLocalPorts(t, 40000, 40009)
		nstest.Serve(t, "tcp", "127.0.0.1:40000")
		for _, multipath := range []bool{true, false} {
			var d safedial.Dialer
			d.SetMultipathTCP(multipath)
			conn, err := d.Dial("tcp", "127.0.0.1:40000")
			require.NoError(t, err)
			require.NoError(t, nstest.OnSocket(nstest.RawConn(t, conn), func(fd int) error {
				protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
				require.NoError(t, err)
				on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR)
				assert.Equal(t, multipath, protocol == unix.IPPROTO_MPTCP)
				assert.Zero(t, on, "SO_REUSEADDR, multipath %t", multipath)
				return err
			}))
			nstest.Reset(conn)
		}
	})
}

// countAccepts listens on address, and returns what counts the connections so far.
func countAccepts(t *testing.T, address string) func() int64 {
	t.Helper()
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	var n atomic.Int64
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			n.Add(1)
			conn.Close()
		}
	}()
	return n.Load
}
