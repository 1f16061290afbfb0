package proof

import (
	"context"
	"crypto/tls"
	"net"
	"syscall"
	"testing"

	"github.com/safedial/safedial"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial/internal/nstest"
)

// TestNetDialerTLSSelf dials in a range of one port: what comes of it is a refusal,
// not a handshake with oneself.
func TestNetDialerTLSSelf(t *testing.T) {
	skipPortable(t, "nothing checks a NetDialer's connections")
	nstest.Run(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, onlyPort, onlyPort)
		var d safedial.Dialer
		_, err := tls.DialWithDialer(d.NetDialer(), "tcp", "127.0.0.1:40000", &tls.Config{ServerName: "localhost"})
		assert.ErrorIs(t, err, safedial.ErrSelfConnect)
		assert.ErrorIs(t, err, syscall.ECONNREFUSED)
		nstest.RequireFree(t, onlyPort)
	})
}

// TestNetDialerLocalAddr: the address moves into the guard, which binds it, and
// refuses what net would refuse.
func TestNetDialerLocalAddr(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		l := nstest.Serve(t, "tcp", "127.0.0.1:40000")
		nstest.Serve(t, "tcp", "[::1]:40000")
		ip := func(s string, port int) net.Addr { return &net.TCPAddr{IP: net.ParseIP(s), Port: port} }
		for name, c := range map[string]struct {
			local   net.Addr
			address string
			from    string
		}{
			"address":              {ip(nstest.OwnAddress, 0), "127.0.0.1:40000", nstest.OwnAddress},
			"address and port":     {ip("127.0.0.1", 9999), "127.0.0.1:40000", "127.0.0.1"},
			"port":                 {&net.TCPAddr{Port: 9999}, "127.0.0.1:40000", "127.0.0.1"},
			"IPv6":                 {ip("::1", 0), "[::1]:40000", "::1"},
			"wildcard":             {ip("::", 9999), "127.0.0.1:40000", "127.0.0.1"},
			"IPv4 wildcard, to v6": {ip("0.0.0.0", 9999), "[::1]:40000", "::1"},
			"by name":              {ip("127.0.0.1", 0), "localhost:40000", "127.0.0.1"},
		} {
			t.Run(name, func(t *testing.T) {
				d := safedial.Dialer{LocalAddr: c.local}
				conn, err := d.NetDialer().Dial("tcp", c.address)
				require.NoError(t, err)
				got := conn.LocalAddr().(*net.TCPAddr)
				assert.Equal(t, c.from, got.IP.String())
				if want := c.local.(*net.TCPAddr).Port; want != 0 {
					assert.Equal(t, want, got.Port)
				}
				nstest.AssertReal(t, conn)
			})
		}
		for name, c := range map[string]struct {
			local   net.Addr
			network string
			want    string
		}{
			"foreign":        {ip("192.0.2.1", 0), "tcp", "bind: cannot assign requested address"},
			"taken":          {ip("127.0.0.1", 40000), "tcp", "bind: address already in use"},
			"other family":   {ip("::1", 0), "tcp", "no suitable address found"},
			"TCP for UDP":    {ip("127.0.0.1", 0), "udp", "mismatched local address type"},
			"UDP for TCP":    {&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, "tcp", "mismatched local address type"},
			"unix for TCP":   {&net.UnixAddr{Name: "x", Net: "unix"}, "tcp", "mismatched local address type"},
			"TCP for IP":     {ip("127.0.0.1", 0), "ip4:1", "mismatched local address type"},
			"TCP for a path": {ip("127.0.0.1", 0), "unix", "mismatched local address type"},
		} {
			t.Run(name, func(t *testing.T) {
				d := safedial.Dialer{LocalAddr: c.local}
				address := l.Addr().String()
				if c.network == "ip4:1" {
					address = "127.0.0.1"
				}
				conn, err := d.NetDialer().Dial(c.network, address)
				assert.Nil(t, conn)
				var op *net.OpError
				require.ErrorAs(t, err, &op)
				assert.ErrorContains(t, err, c.want)
			})
		}
	})
}

// TestIsSelfConnectOfTLS looks through tls.Conn at a socket that net connected to
// itself.
func TestIsSelfConnectOfTLS(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		here := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: onlyPort}
		conn, err := net.DialTCP("tcp", here, here)
		require.NoError(t, err)
		defer nstest.Reset(conn)
		assert.True(t, safedial.IsSelfConnect(conn))
		assert.True(t, safedial.IsSelfConnect(tls.Client(conn, new(tls.Config))))
	})
}

// TestNetDialerRetries: MaxRetries and OnRetry hold for its TCP dials too.
func TestNetDialerRetries(t *testing.T) {
	skipPortable(t, "a NetDialer does not retry")
	nstest.Run(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, onlyPort, onlyPort)
		for maxRetries, want := range map[int]int{-1: 0, 0: 2, 4: 4} {
			for _, local := range []net.Addr{nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}} {
				retries := 0
				d := safedial.Dialer{LocalAddr: local, MaxRetries: maxRetries, OnRetry: func(_ context.Context, r safedial.Retry) {
					retries++
					assert.Equal(t, safedial.Retry{Network: "tcp4", Address: "127.0.0.1:40000", Attempt: retries, Err: safedial.ErrSelfConnect}, r)
				}}
				_, err := d.NetDialer().Dial("tcp", "127.0.0.1:40000")
				assert.ErrorIs(t, err, safedial.ErrSelfConnect)
				assert.Equal(t, want, retries, "MaxRetries %d from %v", maxRetries, local)
				nstest.RequireFree(t, onlyPort)
			}
		}
	})
}
