package safedial

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/safedial/safedial/internal/nstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestErrSelfConnect(t *testing.T) {
	op := dialError("tcp", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}, ErrSelfConnect)
	assert.EqualError(t, op, "dial tcp 127.0.0.1:40000: connect: connection refused: socket connected to itself")
	for _, err := range []error{ErrSelfConnect, op} {
		assert.ErrorIs(t, err, ErrSelfConnect)
		for _, refused := range connRefused {
			assert.ErrorIs(t, err, refused)
		}
		var call *os.SyscallError
		if assert.ErrorAs(t, err, &call) {
			assert.Equal(t, "connect", call.Syscall)
			assert.Equal(t, connRefused[0], call.Err)
		}
		assert.NotErrorIs(t, err, errAddrNotAvailable)
		assert.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	}
	assert.NotErrorIs(t, connRefused[0], ErrSelfConnect, "an ordinary refusal")
	assert.False(t, nstest.OpError(t, op).Timeout())
	assert.False(t, nstest.OpError(t, op).Temporary())
}

// ends is a connection that has nothing but addresses.
type ends struct {
	net.Conn
	local, remote net.Addr
}

func (e ends) LocalAddr() net.Addr  { return e.local }
func (e ends) RemoteAddr() net.Addr { return e.remote }

// wrapper hides a connection behind its NetConn.
type wrapper struct {
	ends
	inner net.Conn
}

func (w *wrapper) NetConn() net.Conn { return w.inner }

// mute is a connection that has a socket which tells nothing.
type mute struct{ ends }

func (mute) SyscallConn() (syscall.RawConn, error) { return nil, errors.New("closed") }

func TestIsSelfConnect(t *testing.T) {
	tcp := func(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	udp := func(s string) net.Addr { return net.UDPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	self := ends{local: tcp("127.0.0.1:40000"), remote: tcp("127.0.0.1:40000")}
	apart := ends{local: tcp("127.0.0.1:40001"), remote: tcp("127.0.0.1:40000")}
	loop := &wrapper{ends: apart}
	loop.inner = loop

	for name, c := range map[string]struct {
		conn net.Conn
		want bool
	}{
		"nil":                    {nil, false},
		"self":                   {self, true},
		"real":                   {apart, false},
		"another address":        {ends{local: tcp("127.0.0.2:40000"), remote: tcp("127.0.0.1:40000")}, false},
		"v4-mapped":              {ends{local: tcp("[::ffff:127.0.0.1]:40000"), remote: tcp("127.0.0.1:40000")}, true},
		"IPv6":                   {ends{local: tcp("[::1]:40000"), remote: tcp("[::1]:40000")}, true},
		"a zone on one end":      {ends{local: tcp("[fe80::1%lo]:40000"), remote: tcp("[fe80::1]:40000")}, true},
		"UDP":                    {ends{local: udp("[::1]:40000"), remote: udp("[::1]:40000")}, true},
		"no addresses":           {ends{}, false},
		"nil pointers":           {ends{local: (*net.TCPAddr)(nil), remote: (*net.TCPAddr)(nil)}, false},
		"unix":                   {ends{local: &net.UnixAddr{Name: "x"}, remote: &net.UnixAddr{Name: "x"}}, false},
		"tls":                    {tls.Client(self, new(tls.Config)), true},
		"tls, real":              {tls.Client(apart, new(tls.Config)), false},
		"wrapped twice":          {&wrapper{ends: apart, inner: &wrapper{ends: apart, inner: self}}, true},
		"wrapping nothing":       {&wrapper{ends: self}, false},
		"wrapping itself":        {loop, false},
		"a socket tells nothing": {mute{self}, false},
	} {
		assert.Equal(t, c.want, IsSelfConnect(c.conn), name)
	}
}

func TestIsSelfConnectOfSockets(t *testing.T) {
	l := nstest.Serve(t, "tcp", "127.0.0.1:0")
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	assert.False(t, IsSelfConnect(conn))
	nstest.Reset(conn)
	assert.False(t, IsSelfConnect(conn), "closed")

	pipe, other := net.Pipe()
	defer pipe.Close()
	defer other.Close()
	assert.False(t, IsSelfConnect(pipe))
}

func TestIsSelfConnectOfUDP(t *testing.T) {
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer packets.Close()
	assert.False(t, IsSelfConnect(packets.(*net.UDPConn)), "not connected")
}

func TestSameEndpoint(t *testing.T) {
	end := netip.MustParseAddrPort
	for _, c := range []struct {
		local, peer string
		want        bool
	}{
		{"127.0.0.1:1", "127.0.0.1:1", true},
		{"127.0.0.1:1", "127.0.0.1:2", false},
		{"127.0.0.1:1", "127.0.0.2:1", false},
		{"127.0.0.1:0", "127.0.0.1:0", false},
		{"127.0.0.1:1", "0.0.0.0:1", true},
		{"127.0.0.1:2", "0.0.0.0:1", false},
		{"[::1]:1", "[::]:1", true},
		{"[::ffff:127.0.0.1]:1", "[::ffff:0.0.0.0]:1", true},
		{"[::ffff:127.0.0.1]:1", "127.0.0.1:1", true},
		{"[::1]:1", "127.0.0.1:1", false},
		{"[fe80::1%2]:1", "[fe80::1%lo]:1", true},
		{"224.0.0.1:1", "224.0.0.1:1", false},
		{"255.255.255.255:1", "255.255.255.255:1", false},
	} {
		assert.Equal(t, c.want, sameEndpoint(end(c.local), end(c.peer)), "%s to %s", c.local, c.peer)
	}
	assert.False(t, sameEndpoint(netip.AddrPort{}, netip.AddrPort{}))
}

func TestMeetsItself(t *testing.T) {
	tests := []struct {
		from, to string
		want     bool
	}{
		{"", "127.0.0.1", true},
		{"", "::1", true},
		{"", "0.0.0.0", true},
		{"", "127.0.0.2", false}, // from 127.0.0.1
		{"", "192.0.2.1", false}, // which may be the host's own
		{"0.0.0.0", "127.0.0.1", true},
		{"127.0.0.2", "127.0.0.2", true},
		{"192.0.2.1", "127.0.0.1", false},
		{"192.0.2.1", "192.0.2.1", true},
	}
	for _, c := range tests {
		var local net.Addr
		if c.from != "" {
			local = &net.TCPAddr{IP: net.ParseIP(c.from)}
		}
		assert.Equal(t, c.want, meetsItself(local, netip.MustParseAddr(c.to)), "from %q to %s", c.from, c.to)
	}
}

// FuzzSameEndpoint compares two ends, and each with itself, in all the forms that the
// same address has.
func FuzzSameEndpoint(f *testing.F) {
	for _, seed := range [][2]string{
		{"127.0.0.1:1", "127.0.0.1:1"},
		{"[::ffff:127.0.0.1]:1", "127.0.0.1:1"},
		{"[fe80::1%lo]:1", "[fe80::1]:1"},
		{"[::]:1", "0.0.0.0:1"},
		{"127.0.0.1:0", "127.0.0.1:0"},
		{"", ""},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		local, _ := netip.ParseAddrPort(a)
		peer, _ := netip.ParseAddrPort(b)
		got := sameEndpoint(local, peer)

		to := peer.Addr().Unmap().WithZone("")
		alike := local.Addr().IsValid() && peer.Addr().IsValid() && local.Addr().As16() == peer.Addr().As16()
		switch to.String() {
		case "invalid IP", "0.0.0.0":
			alike = true
		case "::":
			alike = slices.Contains([]string{"::1", "127.0.0.1"}, local.Addr().Unmap().WithZone("").String())
		case "255.255.255.255":
			alike = false
		}
		want := local.Port() != 0 && local.Port() == peer.Port() && alike && !to.IsMulticast()
		assert.Equal(t, want, got, "%s to %s", local, peer)
		if local.Addr().IsValid() && peer.Addr().IsValid() {
			mapped := netip.AddrPortFrom(netip.AddrFrom16(local.Addr().As16()), local.Port())
			assert.Equal(t, got, sameEndpoint(mapped, peer), "%s mapped to IPv6", local)
		}
		own := local.Addr().Unmap().WithZone("")
		if local.Port() != 0 && !own.IsMulticast() && own.String() != "255.255.255.255" && own != netip.IPv6Unspecified() {
			require.True(t, sameEndpoint(local, local))
		}
	})
}
