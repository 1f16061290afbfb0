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

// A neighbor is another machine at the end of a link of its own: another network namespace,
// which a veth pair leads to.
type neighbor struct{ here, there string }

var neighbors = []neighbor{
	{"192.168.81.1", "192.168.81.2"},
	{"192.168.82.1", "192.168.82.2"},
}

// linkUDP makes the link, and has the neighbor answer datagrams to the port.
func (n neighbor) linkUDP(t *testing.T, port uint16) netip.AddrPort {
	t.Helper()
	return n.link(t, port, answerUDP)
}

// linkTCP makes the link, and has the neighbor answer connections to the port.
func (n neighbor) linkTCP(t *testing.T, port uint16) netip.AddrPort {
	t.Helper()
	return n.link(t, port, answerTCP)
}

func (n neighbor) link(
	t *testing.T, port uint16, answer func(*testing.T, netip.AddrPort) error,
) netip.AddrPort {
	t.Helper()
	nstest.Program(t, "ip", "iproute2")
	address := netip.AddrPortFrom(netip.MustParseAddr(n.there), port)
	require.NoError(t, netns.Elsewhere(n.here, n.there, func() error { return answer(t, address) }))
	// The next link gets the same name. Some kernels rename only an interface that is down.
	for _, args := range [][]string{
		{"link", "set", "here", "down"},
		{"link", "set", "here", "name", "to-" + n.there},
		{"link", "set", "to-" + n.there, "up"},
	} {
		output, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput()
		require.NoError(t, err, "ip %v: %s", args, output)
	}
	return address
}

// answerUDP answers each datagram with the address that it was sent to.
func answerUDP(t *testing.T, address netip.AddrPort) error {
	t.Helper()
	packets, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(address))
	if err != nil {
		return err
	}
	t.Cleanup(func() { _ = packets.Close() })
	go func() {
		buffer := make([]byte, 100)
		for {
			_, from, err := packets.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			_, _ = packets.WriteToUDPAddrPort([]byte(address.String()), from)
		}
	}()
	return nil
}

// answerTCP sends each client the address that it was accepted on.
func answerTCP(t *testing.T, address netip.AddrPort) error {
	t.Helper()
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(address))
	if err != nil {
		return err
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte(address.String()))
			_ = conn.Close()
		}
	}()
	return nil
}
