package bpf

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial"
)

// A service has an address that no interface has.
var serviceIP = netip.MustParseAddr("10.96.0.1")

// TestBalancerUDP dials a service whose backends need different source addresses. A
// second connect(2) of the socket would choose the other backend, to which the first
// source address leads no way back.
func TestBalancerUDP(t *testing.T) {
	inCgroup(t, func(t *testing.T) {
		near := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 5353)
		answerUDP(t, near)
		far, farther := neighbors[0].linkUDP(t, 5353), neighbors[1].linkUDP(t, 5353)
		for name, backends := range map[string][]netip.AddrPort{
			"this host and a link": {near, far},
			"a link and this host": {far, near},
			"two links":            {far, farther},
		} {
			for _, servicePort := range []uint16{53, 40000} {
				for localName, local := range map[string]net.Addr{
					"kernel's choice": nil,
					"LocalAddr :0":    &net.UDPAddr{},
				} {
					service := netip.AddrPortFrom(serviceIP, servicePort)
					t.Run(name+", "+service.String()+", "+localName, func(t *testing.T) {
						b := balance(t, service, backends...)
						dialers := dialers(local)
						want := b.dialUDP(t, dialers["net.Dialer"], service)
						require.Len(t, want, len(backends), "net.Dialer does not reach every backend")
						assert.Equal(t, want, b.dialUDP(t, dialers["Dialer"], service), "Dialer")
						assert.Equal(t, want, b.dialUDP(t, dialers["NetDialer"], service), "NetDialer")
					})
				}
			}
		}
	})
}

type dialer interface {
	Dial(network, address string) (net.Conn, error)
}

// dialers returns net.Dialer and those of safedial, by name.
func dialers(local net.Addr) map[string]dialer {
	d := safedial.Dialer{LocalAddr: local}
	return map[string]dialer{"net.Dialer": &net.Dialer{LocalAddr: local}, "Dialer": &d, "NetDialer": d.NetDialer()}
}

// dialUDP dials the service a few times, and returns the source address that it got
// towards each backend.
func (b balancer) dialUDP(t *testing.T, d dialer, service netip.AddrPort) (sources map[string]string) {
	t.Helper()
	const dials = 6
	sources = make(map[string]string)
	for range dials {
		conn, err := d.Dial("udp", service.String())
		require.NoError(t, err)
		backend, source := conn.RemoteAddr().String(), conn.LocalAddr().(*net.UDPAddr).IP.String()
		if other, ok := sources[backend]; ok {
			assert.Equal(t, other, source, "the source address of %s", backend)
		}
		sources[backend] = source
		assert.Equal(t, backend, ask(t, conn), "from %s", source)
		conn.Close()
	}
	b.requireOnce(t, dials)
	return sources
}

// requireOnce requires that so many sockets were connected to the service since the
// last call, each of them once.
func (b balancer) requireOnce(t *testing.T, sockets int) {
	t.Helper()
	connects := b.sockets(t)
	assert.Len(t, connects, sockets, "sockets")
	for _, n := range connects {
		require.EqualValues(t, 1, n, "connect(2) of one socket")
	}
}

// ask sends a datagram, and returns the answer.
func ask(t *testing.T, conn net.Conn) string {
	t.Helper()
	require.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	_, err := conn.Write([]byte("who are you"))
	require.NoError(t, err)
	return read(t, conn)
}

func read(t *testing.T, conn net.Conn) string {
	t.Helper()
	require.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	buffer := make([]byte, 100)
	n, err := conn.Read(buffer)
	require.NoError(t, err)
	return string(buffer[:n])
}
