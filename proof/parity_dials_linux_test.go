package proof

import (
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/safedial/safedial/internal/nstest"
)

// endedRows are dials that time ends, or the caller.
func endedRows(dir string) []parityCase {
	return []parityCase{
		{name: "negative timeout", address: live("127.0.0.1"), dialer: net.Dialer{Timeout: -1}},
		{name: "negative timeout, by name", raced: true, address: live("localhost"), dialer: net.Dialer{Timeout: -1}},
		{
			name:    "negative timeout, unix",
			network: "unix",
			address: filepath.Join(dir, "live"),
			dialer:  net.Dialer{Timeout: -1},
		},
		{name: "past deadline", address: live("127.0.0.1"), dialer: net.Dialer{Deadline: time.Unix(1, 0)}},
		{name: "past context deadline", address: live("127.0.0.1"), ctx: within(-time.Second)},
		{name: "canceled context", address: live("127.0.0.1"), ctx: canceled},
		{name: "canceled context, by name", raced: true, address: live("localhost"), ctx: canceled},
		{
			name:    "canceled context, from an address",
			address: live("127.0.0.1"),
			ctx:     canceled,
			dialer:  net.Dialer{LocalAddr: tcp("127.0.0.1", 0)},
		},
		{name: "canceled context, bad address", address: "127.0.0.1", ctx: canceled},
		{
			name:    "nil context",
			address: live("127.0.0.1"),
			ctx:     func() (context.Context, context.CancelFunc) { return nil, func() {} },
		},
		{
			name:    "nil context with a timeout",
			address: live("127.0.0.1"),
			dialer:  net.Dialer{Timeout: time.Minute},
			ctx:     func() (context.Context, context.CancelFunc) { return nil, func() {} },
		},
		{name: "silent, context deadline", address: "127.0.0.1:9000", ctx: within(20 * time.Millisecond)},
		{name: "silent, timeout", address: "127.0.0.1:9000", dialer: net.Dialer{Timeout: 20 * time.Millisecond}},
		{
			name:    "silent, from an address",
			address: "127.0.0.1:9000",
			dialer:  net.Dialer{Timeout: 20 * time.Millisecond, LocalAddr: tcp("127.0.0.1", 0)},
		},
		{name: "silent, canceled", address: "127.0.0.1:9000", ctx: func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(50*time.Millisecond, cancel)
			return ctx, cancel
		}},
		{name: "silent, Cancel", address: "127.0.0.1:9000", cancelAfter: 20 * time.Millisecond},
	}
}

// networkRows are the networks that are not TCP.
func networkRows(dir string) []parityCase {
	return []parityCase{
		{name: "UDP", network: "udp", address: live("127.0.0.1")},
		{
			name:    "UDP from an address",
			network: "udp4",
			address: live("127.0.0.1"),
			dialer:  net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}},
		},
		{
			name:    "UDP from a TCP address",
			network: "udp",
			address: live("127.0.0.1"),
			dialer:  net.Dialer{LocalAddr: tcp("127.0.0.1", 0)},
		},
		{
			name:    "IP from a TCP address",
			network: "ip4:1",
			address: "127.0.0.1",
			dialer:  net.Dialer{LocalAddr: tcp("127.0.0.1", 0)},
		},
		{
			name:    "unix from a TCP address",
			network: "unix",
			address: filepath.Join(dir, "live"),
			dialer:  net.Dialer{LocalAddr: tcp("127.0.0.1", 0)},
		},
		{name: "UDP IPv6", network: "udp6", address: live("::1")},
		{name: "IP", network: "ip4:1", address: "127.0.0.1"},
		{name: "unix", network: "unix", address: filepath.Join(dir, "live")},
		{name: "unix, absent", network: "unix", address: filepath.Join(dir, "absent")},
		{name: "unixgram, absent", network: "unixgram", address: filepath.Join(dir, "absent")},
		{name: "unixpacket, wrong type", network: "unixpacket", address: filepath.Join(dir, "live")},
	}
}

// methodRows are the methods that are not DialContext.
func methodRows(dir string) []parityCase {
	here := netip.MustParseAddr("127.0.0.1")
	liveAddr, deadAddr := netip.AddrPortFrom(here, 40000), netip.AddrPortFrom(here, 9)
	return []parityCase{
		{name: "Dial", dial: func(m dialer, _ context.Context) (net.Conn, error) { return m.Dial("tcp", live("127.0.0.1")) }},
		{name: "DialTCP from an address", dial: dialTCP("tcp", netip.AddrPortFrom(here, 0), liveAddr)},
		{name: "DialTCP from a port", dial: dialTCP("tcp4", netip.AddrPortFrom(here, 9999), liveAddr)},
		{
			name: "DialTCP from any address and a port",
			dial: dialTCP("tcp", netip.AddrPortFrom(netip.IPv4Unspecified(), 9999), liveAddr),
		},
		{name: "DialTCP refused", dial: dialTCP("tcp", netip.AddrPortFrom(here, 0), deadAddr)},
		{name: "DialTCP of the other family", dial: dialTCP("tcp6", netip.AddrPortFrom(here, 0), liveAddr)},
		{
			name: "DialTCP of IPv6 on tcp4",
			dial: dialTCP("tcp4", netip.AddrPortFrom(here, 0), netip.MustParseAddrPort("[::1]:40000")),
		},
		{name: "DialTCP on udp", dial: dialTCP("udp", netip.AddrPortFrom(here, 0), liveAddr)},
		{name: "DialTCP on no network", dial: dialTCP("", netip.AddrPortFrom(here, 0), liveAddr)},
		{
			name:   "DialTCP ignores LocalAddr",
			dial:   dialTCP("tcp", netip.AddrPortFrom(here, 0), liveAddr),
			dialer: net.Dialer{LocalAddr: tcp("192.0.2.1", 1)},
		},
		{name: "DialTCP canceled", but: uncalled, dial: dialTCP("tcp", netip.AddrPortFrom(here, 0), liveAddr), ctx: canceled},
		{name: "DialTCP multipath", dial: dialTCP("tcp", netip.AddrPortFrom(here, 0), liveAddr), mptcp: true},
		{name: "DialUDP", dial: dialUDP("udp", netip.AddrPortFrom(here, 0), liveAddr)},
		{name: "DialIP", dial: func(m dialer, ctx context.Context) (net.Conn, error) {
			return nstest.NetConn(m.DialIP(ctx, "ip4:1", netip.Addr{}, here))
		}},
		{name: "DialUnix", dial: func(m dialer, ctx context.Context) (net.Conn, error) {
			return nstest.NetConn(m.DialUnix(ctx, "unix", nil, &net.UnixAddr{Name: filepath.Join(dir, "live"), Net: "unix"}))
		}},
		{name: "DialUnix without an address", dial: func(m dialer, ctx context.Context) (net.Conn, error) {
			return nstest.NetConn(m.DialUnix(ctx, "unix", nil, nil))
		}},
	}
}

func within(d time.Duration) func() (context.Context, context.CancelFunc) {
	return func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(context.Background(), d)
	}
}

func canceled() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx, cancel
}

func dialTCP(network string, laddr, raddr netip.AddrPort) func(dialer, context.Context) (net.Conn, error) {
	return func(m dialer, ctx context.Context) (net.Conn, error) {
		return nstest.NetConn(m.DialTCP(ctx, network, laddr, raddr))
	}
}

func dialUDP(network string, laddr, raddr netip.AddrPort) func(dialer, context.Context) (net.Conn, error) {
	return func(m dialer, ctx context.Context) (net.Conn, error) {
		return nstest.NetConn(m.DialUDP(ctx, network, laddr, raddr))
	}
}
