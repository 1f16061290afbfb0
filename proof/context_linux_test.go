package proof

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"go/build"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// TestNilContextPanics: whatever the addresses, a nil context panics as net.Dialer's does.
func TestNilContextPanics(t *testing.T) {
	eachTypedDial(func(what string, dial contextDial) {
		want, got := panicOf(new(net.Dialer), dial), panicOf(new(safedial.Dialer), dial)
		assert.Equal(t, want, got, what)
	})
}

// panicOf returns what a dial with a nil context panics with.
func panicOf(m dialer, dial contextDial) (value any) {
	defer func() { value = recover() }()
	conn, err := dial(m, nil)
	if err == nil {
		conn.Close()
	}
	return nil
}

// TestEndedContextReachesHook: a dial of an address whose context has ended makes a socket
// and calls the hook, as net.Dialer does: that of Go 1.27, if an address is not valid.
func TestEndedContextReachesHook(t *testing.T) {
	isNew := slices.Contains(build.Default.ReleaseTags, "go1.27")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	eachTypedDial(func(what string, dial contextDial) {
		if !isNew && strings.HasSuffix(what, "to invalid AddrPort") {
			return
		}
		want, wantErr := callsOf(ended, dial, func(nd *net.Dialer) dialer { return nd })
		got, err := callsOf(ended, dial, func(nd *net.Dialer) dialer { return safedial.From(nd) })
		assert.Equal(t, want, got, "%s: calls of the hook", what)
		assert.Equal(t, wantErr == nil, err == nil, "%s: net says %v, safedial %v", what, wantErr, err)
		asNew := isNew || !strings.Contains(what, "from invalid AddrPort")
		if asNew && len(want) == 0 { // otherwise the refusal of the connection may come first
			assert.Equal(t, wantErr, err, what)
		}
	})
}

// callsOf dials, and returns the calls of the dialer's hook, and the error.
func callsOf(ctx context.Context, dial contextDial, build func(*net.Dialer) dialer) (calls []string, err error) {
	nd := new(net.Dialer)
	nd.ControlContext = func(ctx context.Context, network, address string, _ syscall.RawConn) error {
		calls = append(calls, fmt.Sprintf("%s %s %v", network, address, ctx.Err()))
		return nil
	}
	conn, err := dial(build(nd), ctx)
	if err == nil {
		conn.Close()
	}
	return calls, err
}

// TestLookupErrorWithoutAddress has a resolver fail with errors that a dial retries, in a
// *net.OpError of its own that has no address.
func TestLookupErrorWithoutAddress(t *testing.T) {
	for _, errno := range []error{syscall.EADDRNOTAVAIL, syscall.EAGAIN, syscall.EADDRINUSE, safedial.ErrSelfConnect} {
		for _, call := range []string{"connect", "bind"} {
			failure := &net.OpError{Op: "dial", Net: "udp", Err: os.NewSyscallError(call, errno)}
			nd := &net.Dialer{Resolver: &net.Resolver{
				PreferGo: true,
				Dial: func(context.Context, string, string) (net.Conn, error) {
					return nil, errors.Join(context.DeadlineExceeded, failure)
				},
			}}
			d := safedial.From(nd)
			d.OnRetry = func(_ context.Context, r safedial.Retry) { t.Errorf("retried: %+v", r) }
			for _, network := range []string{"tcp", "udp"} {
				_, want := nd.Dial(network, "name.test:9000")
				_, err := d.Dial(network, "name.test:9000")
				require.Error(t, want)
				assert.EqualError(t, err, want.Error(), "%s: %s", network, failure)
			}
		}
	}
}

// TestIsSelfConnectOfNil: a nil pointer is no connection, whatever its type.
func TestIsSelfConnectOfNil(t *testing.T) {
	tests := []struct {
		name string
		conn net.Conn
	}{
		{"nil", nil},
		{"*net.TCPConn", (*net.TCPConn)(nil)},
		{"*net.UDPConn", (*net.UDPConn)(nil)},
		{"*net.IPConn", (*net.IPConn)(nil)},
		{"*net.UnixConn", (*net.UnixConn)(nil)},
		{"*tls.Conn", (*tls.Conn)(nil)},
		{"*tls.Conn of a nil *net.TCPConn", tls.Client((*net.TCPConn)(nil), nil)},
		{"a zero *net.TCPConn", new(net.TCPConn)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			assert.NotPanics(t, func() { assert.False(t, safedial.IsSelfConnect(test.conn)) })
		})
	}
}

// A contextDial is a dial of a dialer.
type contextDial = func(m dialer, ctx context.Context) (net.Conn, error)

// typedNetworks are the methods that take a context, with the networks to dial on.
var typedNetworks = map[string][]string{
	"DialTCP":     {"tcp", "tcp4", "tcp6", "udp", ""},
	"DialUDP":     {"udp", "udp4", "udp6", "tcp", ""},
	"DialIP":      {"ip:1", "ip4:1", "tcp", ""},
	"DialUnix":    {"unix", "tcp"},
	"DialContext": {"tcp", "udp", ""},
}

// eachTypedDial calls f for every method, network and pair of addresses.
func eachTypedDial(f func(what string, dial contextDial)) {
	addresses := []netip.Addr{{}, netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback(), netip.IPv4Unspecified()}
	for method, networks := range typedNetworks {
		for _, network := range networks {
			for _, from := range addresses {
				for _, to := range addresses {
					laddr, raddr := withPort(from, 0), withPort(to, 9)
					what := fmt.Sprintf("%s on %q from %s to %s", method, network, laddr, raddr)
					f(what, typedDial(method, network, laddr, raddr))
				}
			}
		}
	}
}

// withPort returns the address with the port, and the zero AddrPort for none.
func withPort(addr netip.Addr, port uint16) netip.AddrPort {
	if !addr.IsValid() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, port)
}

// typedDial returns a call of the method.
func typedDial(method, network string, laddr, raddr netip.AddrPort) contextDial {
	return func(m dialer, ctx context.Context) (net.Conn, error) {
		switch method {
		case "DialTCP":
			return nstest.NetConn(m.DialTCP(ctx, network, laddr, raddr))
		case "DialUDP":
			return nstest.NetConn(m.DialUDP(ctx, network, laddr, raddr))
		case "DialIP":
			return nstest.NetConn(m.DialIP(ctx, network, laddr.Addr(), raddr.Addr()))
		case "DialUnix":
			return nstest.NetConn(m.DialUnix(ctx, network, nil, &net.UnixAddr{Name: "/no/such/socket", Net: "unix"}))
		}
		return m.DialContext(ctx, network, raddr.String())
	}
}
