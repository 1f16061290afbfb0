package proof

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
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

// TestManyAddresses compares dials of names that have several addresses, some of
// which do not answer.
func TestManyAddresses(t *testing.T) {
	isolated(t, func(t *testing.T) {
		addr := netip.MustParseAddr
		nstest.Serve(t, "tcp", "127.0.0.1:"+livePort)
		nstest.Serve(t, "tcp", "[::1]:40001")
		nstest.Serve(t, "tcp", "127.0.0.1:40001")
		nstest.FullBacklog(t, 9000) // 127.0.0.1
		nstest.FullBacklogIPv6(t, 40002)
		nstest.Serve(t, "tcp", "127.0.0.1:40002")
		resolver := nstest.Zone{
			"both.test":    {addr("::1"), addr("127.0.0.1")},
			"four.test":    {addr("127.0.0.2"), addr("127.0.0.3"), addr("127.0.0.4"), addr("127.0.0.1")},
			"silent.test":  {addr("127.0.0.1"), addr("127.0.0.5")},
			"nothing.test": {},
		}.Resolver(t)
		within := func(d time.Duration) net.Dialer { return net.Dialer{Resolver: resolver, Timeout: d} }
		plain := net.Dialer{Resolver: resolver}
		refused := func(m dialer, ctx context.Context) (net.Conn, error) { return m.DialContext(ctx, "tcp", "both.test:9") }
		for _, row := range []parityCase{
			{name: "dual stack", address: "both.test:40001", dialer: plain},
			{name: "dual stack on tcp4", network: "tcp4", address: "both.test:40001", dialer: plain},
			{name: "dual stack on tcp6", network: "tcp6", address: "both.test:40001", dialer: plain},
			{name: "IPv6 refused", address: "both.test:" + livePort, dialer: plain},
			{
				name: "IPv6 refused, no fast fallback", address: "both.test:" + livePort,
				dialer: net.Dialer{Resolver: resolver, FallbackDelay: -1},
			},
			{
				name: "IPv6 refused, from IPv4", address: "both.test:" + livePort,
				dialer: net.Dialer{Resolver: resolver, LocalAddr: tcp("127.0.0.1", 0)},
			},
			{
				name: "IPv6 refused, from IPv4 on tcp4", network: "tcp4", address: "both.test:9",
				dialer: net.Dialer{Resolver: resolver, LocalAddr: tcp("127.0.0.1", 0)},
			},
			{name: "from IPv6", address: "both.test:40001", dialer: net.Dialer{Resolver: resolver, LocalAddr: tcp("::1", 0)}},
			{
				name: "refused, from IPv6 on tcp6", network: "tcp6", address: "both.test:9",
				dialer: net.Dialer{Resolver: resolver, LocalAddr: tcp("::1", 0)},
			},
			{name: "refused, from IPv4", dial: refused, dialer: net.Dialer{Resolver: resolver, LocalAddr: tcp("127.0.0.1", 0)}},
			{name: "refused, from IPv6", dial: refused, dialer: net.Dialer{Resolver: resolver, LocalAddr: tcp("::1", 0)}},
			{name: "IPv6 wildcard, IPv4 server", address: "[::]:" + livePort, dialer: plain},
			{
				name: "IPv6 silent", address: "both.test:40002",
				dialer: net.Dialer{Resolver: resolver, FallbackDelay: 30 * time.Millisecond},
			},
			{
				name: "IPv6 silent, no fast fallback", address: "both.test:40002",
				dialer: net.Dialer{Resolver: resolver, FallbackDelay: -1, Timeout: 100 * time.Millisecond},
			},
			{name: "last of four", address: "four.test:" + livePort, dialer: within(time.Minute)},
			{name: "none of four", address: "four.test:9", dialer: within(time.Minute)},
			{name: "none of two families", address: "both.test:9", dialer: plain},
			{name: "deadline among addresses", address: "silent.test:9000", dialer: within(100 * time.Millisecond)},
			{name: "no address", address: "nothing.test:" + livePort, dialer: plain},
			{name: "unknown name", address: "unknown.test:" + livePort, dialer: plain},
			{name: "multipath", address: "both.test:40001", dialer: plain, mptcp: true},
			{name: "Cancel", address: "silent.test:9000", dialer: plain, cancelAfter: 50 * time.Millisecond},
		} {
			row.raced = true // by the addresses, or by the deadline and the next address
			t.Run(row.name, func(t *testing.T) {
				t.Parallel()
				row.compare(t)
			})
		}
	})
}

// both returns a resolver of a name with an IPv6 and an IPv4 address.
func both(t *testing.T) *net.Resolver {
	t.Helper()
	return nstest.Zone{"both.test": {netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")}}.Resolver(t)
}

// TestLosingLegIsClosed: of two addresses that both accept, the one that loses is
// closed as by net, and not reset.
func TestLosingLegIsClosed(t *testing.T) {
	skipPortable(t, "a connection that nothing has checked is reset")
	isolated(t, func(t *testing.T) {
		l, err := net.Listen("tcp", ":40000")
		require.NoError(t, err)
		var accepted atomic.Int64
		var group sync.WaitGroup
		group.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				accepted.Add(1)
				group.Go(func() {
					defer conn.Close()
					assert.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
					_, err := conn.Read(make([]byte, 1))
					assert.Equal(t, io.EOF, err)
				})
			}
		})
		dials := int64(0)
		met := make(chan struct{})
		d := safedial.Dialer{Resolver: both(t), LocalAddr: new(net.TCPAddr), FallbackDelay: 1}
		d.ControlContext = func(ctx context.Context, _, _ string, _ syscall.RawConn) error { // neither leg connects before the other is there
			select {
			case met <- struct{}{}:
			case <-met:
			case <-ctx.Done():
			}
			return nil
		}
		for ; accepted.Load() < dials+10; dials++ {
			require.Less(t, dials, int64(10_000), "no leg loses")
			conn, err := d.Dial("tcp", "both.test:40000")
			require.NoError(t, err)
			conn.Close()
		}
		l.Close()
		group.Wait()
	})
}

// TestLingeringOfEachLeg has a hook set SO_LINGER for the sockets of one family, while the
// sockets of both are there: the connection lingers as the hook has set its own socket.
func TestLingeringOfEachLeg(t *testing.T) {
	isolated(t, func(t *testing.T) {
		nstest.Serve(t, "tcp", ":40000")
		linger := setLinger(5)
		for _, lingers := range []string{"tcp4", "tcp6"} {
			met := make(chan struct{})
			d := safedial.Dialer{Resolver: both(t), FallbackDelay: 1}
			d.ControlContext = func(ctx context.Context, network, address string, c syscall.RawConn) error {
				if network == lingers {
					if err := linger(network, address, c); err != nil {
						return err
					}
				}
				select { // neither leg goes on before the hook has set the other one
				case met <- struct{}{}:
				case <-met:
				case <-ctx.Done():
				}
				return nil
			}
			got := map[string]int{}
			for range 200 {
				conn, err := d.Dial("tcp", "both.test:40000")
				require.NoError(t, err)
				isIPv4 := nstest.AddrPort(conn.RemoteAddr()).Addr().Is4()
				network := map[bool]string{true: "tcp4", false: "tcp6"}[isIPv4]
				got[fmt.Sprintf("%s %t", network, optionOf(t, conn, unix.SOL_SOCKET, unix.SO_LINGER) != 0)]++
				nstest.Reset(conn)
			}
			other := map[string]string{"tcp4": "tcp6", "tcp6": "tcp4"}[lingers]
			assert.Zero(t, got[lingers+" false"], "%s connections that do not linger: %v", lingers, got)
			assert.Zero(t, got[other+" true"], "%s connections that linger: %v", other, got)
		}
	})
}

// TestAddressWithoutSourceIsDialedOnce has a name whose first address fails for good,
// because IPv6 is off: that costs the others nothing.
func TestAddressWithoutSourceIsDialedOnce(t *testing.T) {
	isolated(t, func(t *testing.T) {
		nstest.Sysctl(t, "/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")
		nstest.Serve(t, "tcp", "127.0.0.1:9000")
		nstest.FullBacklog(t, 9010)
		var lookups atomic.Int32
		resolver := both(t)
		inner := resolver.Dial
		resolver.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			lookups.Add(1)
			return inner(ctx, network, address)
		}
		for _, delay := range []time.Duration{10 * time.Millisecond, -1} {
			for address, timeout := range map[string]time.Duration{
				"both.test:9000": time.Minute, "both.test:9010": time.Second,
			} {
				lookups.Store(0)
				var l retryLog
				d := l.of(safedial.Dialer{Resolver: resolver, FallbackDelay: delay, MaxRetries: 20, Timeout: timeout})
				start := time.Now()
				conn, err := d.Dial("tcp", address)
				assert.Less(t, time.Since(start), timeout+10*time.Second)
				if address == "both.test:9000" {
					require.NoError(t, err)
					conn.Close()
				} else {
					assertEnded(t, err, true)
				}
				assert.EqualValues(t, 2, lookups.Load(), "an A and an AAAA question")
				l.mu.Lock()
				assert.Equal(t, 1, l.calls["tcp4"], "the good address is dialed once")
				assert.LessOrEqual(t, l.calls["tcp6"], 3, "a pause for an address without a source")
				l.mu.Unlock()
			}
		}
	})
}

// TestUnspecifiedAddresses dials from, and to, every form of no address. What is dialed,
// what a hook sees, and the error are net's.
func TestUnspecifiedAddresses(t *testing.T) {
	isolated(t, func(t *testing.T) {
		if !nstest.HasIPv6() {
			t.Skip("the kernel has no IPv6")
		}
		nstest.Hosts(t, nstest.DualLocalhost)
		nstest.Serve(t, "tcp", "127.0.0.1:"+livePort)
		nstest.Serve(t, "tcp", "[::1]:"+livePort)
		nstest.Serve(t, "tcp", "127.0.0.1:40001") // of one family alone
		hosts := []string{
			"", "0.0.0.0", "::", "::ffff:0.0.0.0", "127.0.0.1", "::1", "::ffff:127.0.0.1", "localhost",
		}
		locals := []struct {
			name string
			addr net.TCPAddr
		}{
			{"no address", net.TCPAddr{}},
			{"an empty IP", net.TCPAddr{IP: net.IP{}}},
			{"0.0.0.0", net.TCPAddr{IP: net.IPv4zero}},
			{"0.0.0.0 of 4 bytes", net.TCPAddr{IP: net.IPv4zero.To4()}},
			{"127.0.0.1", net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}},
			{"::", net.TCPAddr{IP: net.IPv6zero}},
			{"::%lo", net.TCPAddr{IP: net.IPv6zero, Zone: "lo"}},
			{"::1", net.TCPAddr{IP: net.IPv6loopback}},
			{"::1%lo", net.TCPAddr{IP: net.IPv6loopback, Zone: "lo"}},
		}
		for _, local := range locals {
			for _, network := range []string{"tcp", "udp", "tcp4", "udp4", "tcp6", "udp6"} {
				for _, host := range hosts {
					for _, port := range []string{livePort, "40001"} {
						compareFrom(t, local.name, &local.addr, network, net.JoinHostPort(host, port))
					}
				}
			}
		}
	})
}

// TestTypedUnspecifiedAddresses dials with DialTCP and DialUDP from and to addresses of which
// some are unspecified: the peer, or the refusal, is net.Dialer's.
func TestTypedUnspecifiedAddresses(t *testing.T) {
	isolated(t, func(t *testing.T) {
		if !nstest.HasIPv6() {
			t.Skip("the kernel has no IPv6")
		}
		nstest.Serve(t, "tcp", "127.0.0.1:"+livePort)
		nstest.Serve(t, "tcp", "[::1]:"+livePort)
		ips := []string{"0.0.0.0", "::", "::ffff:0.0.0.0", "127.0.0.1", "::1", "::ffff:127.0.0.1"}
		for _, from := range ips {
			for _, to := range ips {
				laddr := netip.AddrPortFrom(netip.MustParseAddr(from), 0)
				raddr := netip.MustParseAddrPort(net.JoinHostPort(to, livePort))
				want := typedPeers(t, new(net.Dialer), laddr, raddr)
				assert.Equal(t, want, typedPeers(t, new(safedial.Dialer), laddr, raddr), "from %s to %s", from, to)
			}
		}
	})
}

// typedPeers returns where the dials by DialTCP and DialUDP lead to.
func typedPeers(t *testing.T, d dialer, laddr, raddr netip.AddrPort) (peers []string) {
	t.Helper()
	for _, digit := range []string{"", "4", "6"} {
		conn, _ := nstest.NetConn(d.DialTCP(t.Context(), "tcp"+digit, laddr, raddr))
		peers = append(peers, "tcp"+digit+" "+peer(conn))
		conn, _ = nstest.NetConn(d.DialUDP(t.Context(), "udp"+digit, laddr, raddr))
		peers = append(peers, "udp"+digit+" "+peer(conn))
	}
	return peers
}

// TestTypedDialThatNetRefuses has a hook make net accept addresses that it refuses. Nothing
// but the end is checked then.
func TestTypedDialThatNetRefuses(t *testing.T) {
	isolated(t, func(t *testing.T) {
		if !nstest.HasIPv6() {
			t.Skip("the kernel has no IPv6")
		}
		d := safedial.Dialer{Control: setOption(unix.SOL_IPV6, unix.IPV6_V6ONLY, 0)}
		nd := net.Dialer{Control: d.Control}
		laddr, raddr := netip.MustParseAddrPort("[::]:40001"), netip.MustParseAddrPort("127.0.0.1:40001")
		conn, err := nd.DialUDP(t.Context(), "udp6", laddr, raddr)
		require.NoError(t, err)
		require.True(t, safedial.IsSelfConnect(conn), "the test does not show the effect")
		conn.Close()

		_, err = d.DialUDP(t.Context(), "udp6", laddr, raddr)
		assert.ErrorIs(t, err, safedial.ErrSelfConnect)
		_, err = d.DialTCP(t.Context(), "tcp6", laddr, raddr)
		assert.ErrorIs(t, err, safedial.ErrSelfConnect)
		nstest.RequireFree(t, 40001)
	})
}

// compareFrom compares a dial with net.Dialer's.
func compareFrom(t *testing.T, name string, from *net.TCPAddr, network, address string) {
	t.Helper()
	var local net.Addr = from
	if network[:3] == "udp" {
		local = (*net.UDPAddr)(from)
	}
	row := parityCase{
		name: network + " from " + name + " to " + address, dialer: net.Dialer{LocalAddr: local},
		dial: func(m dialer, ctx context.Context) (net.Conn, error) { return m.DialContext(ctx, network, address) },
	}
	row.but = func(o *outcome) {
		if network[:3] == "tcp" && from.IP.Equal(net.IPv6zero) {
			asIPv4(o) // an IPv4 socket dials an IPv4 address
		}
		if from.IP.To4() == nil && len(o.Controls) > 1 && strings.HasPrefix(address, "[::]:") {
			o.Controls = o.Controls[:1] // net dials "::" once more as 0.0.0.0, from IPv6 as well
		}
	}
	row.compare(t)
}
