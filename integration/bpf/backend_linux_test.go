package bpf

import (
	"net"
	"net/netip"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial/internal/netns"
	"github.com/safedial/safedial/internal/nstest"
)

// answerUDP answers each datagram with the address that it was sent to.
func answerUDP(t *testing.T, address netip.AddrPort) {
	t.Helper()
	packets, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(address))
	require.NoError(t, err)
	serveUDP(t, packets)
}

func serveUDP(t *testing.T, packets *net.UDPConn) {
	t.Helper()
	t.Cleanup(func() { _ = packets.Close() })
	go func() {
		buffer := make([]byte, 100)
		for {
			_, from, err := packets.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			_, _ = packets.WriteToUDPAddrPort([]byte(packets.LocalAddr().String()), from)
		}
	}()
}

// answerTCP sends each client the address that it was accepted on.
func answerTCP(t *testing.T, l net.Listener) {
	t.Helper()
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte(l.Addr().String()))
			_ = conn.Close()
		}
	}()
}

// A neighbor is another machine at the end of a link of its own: another network
// namespace, which a veth pair leads to.
type neighbor struct{ here, there string }

var neighbors = []neighbor{
	{"192.168.81.1", "192.168.81.2"},
	{"192.168.82.1", "192.168.82.2"},
}

// linkUDP makes the link, and has the neighbor answer datagrams to the port.
func (n neighbor) linkUDP(t *testing.T, port uint16) netip.AddrPort {
	t.Helper()
	address := netip.AddrPortFrom(netip.MustParseAddr(n.there), port)
	var packets *net.UDPConn
	n.link(t, func() (err error) {
		packets, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(address))
		return err
	})
	serveUDP(t, packets)
	return address
}

// linkTCP makes the link, and has the neighbor answer connections to the port.
func (n neighbor) linkTCP(t *testing.T, port uint16) netip.AddrPort {
	t.Helper()
	address := netip.AddrPortFrom(netip.MustParseAddr(n.there), port)
	var l *net.TCPListener
	n.link(t, func() (err error) {
		l, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(address))
		return err
	})
	answerTCP(t, l)
	return address
}

func (n neighbor) link(t *testing.T, listen func() error) {
	t.Helper()
	nstest.Program(t, "ip", "iproute2")
	require.NoError(t, netns.Elsewhere(n.here, n.there, listen))
	// The next link takes the name anew. Some kernels rename only an interface that
	// is down.
	for _, args := range [][]string{
		{"link", "set", "here", "down"},
		{"link", "set", "here", "name", "to-" + n.there},
		{"link", "set", "to-" + n.there, "up"},
	} {
		output, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput()
		require.NoError(t, err, "ip %v: %s", args, output)
	}
}
