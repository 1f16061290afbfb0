package bpf

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial"
)

// TestBalancerUDP shows that safedial connects a UDP socket once, as net.Dialer does, and so
// gets the source address that leads to the backend. A second connect(2) of the socket would
// choose the next backend, to which the first source address leads no way back.
func TestBalancerUDP(t *testing.T) {
	inCgroup(t, func(t *testing.T) {
		near := netip.MustParseAddrPort("127.0.0.1:5353")
		require.NoError(t, answerUDP(t, near))
		far, farther := neighbors[0].linkUDP(t, 5353), neighbors[1].linkUDP(t, 5353)
		tests := []struct {
			name     string
			backends []netip.AddrPort
		}{
			{name: "host-then-link", backends: []netip.AddrPort{near, far}},
			{name: "link-then-host", backends: []netip.AddrPort{far, near}},
			{name: "two-links", backends: []netip.AddrPort{far, farther}},
		}
		for _, tt := range tests {
			for _, way := range ways(&net.UDPAddr{}, "Dialer", "NetDialer") {
				t.Run(tt.name+"/"+way.name, func(t *testing.T) {
					b := balance(t, way.service, tt.backends...)
					want := b.dialUDP(t, &net.Dialer{LocalAddr: way.local}, way.service)
					require.Len(t, want, len(tt.backends), "net.Dialer must reach every backend")
					got := b.dialUDP(t, way.dialer(&safedial.Dialer{}), way.service)
					assert.Equal(t, want, got)
				})
			}
		}
	})
}

// dialUDP dials the service a few times, and returns the source address of each backend's
// connections.
func (b balancer) dialUDP(t *testing.T, d dialer, service netip.AddrPort) map[string]string {
	t.Helper()
	const dials = 6
	sources := make(map[string]string)
	for range dials {
		conn, err := d.Dial("udp", service.String())
		require.NoError(t, err)
		backend := conn.RemoteAddr().String()
		source := conn.LocalAddr().(*net.UDPAddr).IP.String()
		if earlier, ok := sources[backend]; ok {
			assert.Equal(t, earlier, source, "the source address of %s", backend)
		}
		sources[backend] = source
		assert.Equal(t, backend, ask(t, conn), "from %s", source)
		conn.Close()
	}
	b.requireOnce(t, dials)
	return sources
}

// requireOnce requires that so many sockets were connected to the service since the last
// call, each of them once.
func (b balancer) requireOnce(t *testing.T, sockets int) {
	t.Helper()
	connects := b.sockets(t)
	assert.Len(t, connects, sockets, "sockets")
	for _, n := range connects {
		require.EqualValues(t, 1, n, "connect(2) of one socket")
	}
}
