package proof

import (
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/netns"
	"github.com/safedial/safedial/internal/nstest"
)

// TestOwnPortToAnotherHost dials another host until no port is left. The port of the same
// number as the destination's is a port like any other there, and must not be lost.
func TestOwnPortToAnotherHost(t *testing.T) {
	tests := []struct {
		name      string
		low, high uint16 // of the system
		dialer    safedial.Dialer
		want      []uint16
	}{
		{"one port", 40000, 40000, safedial.Dialer{}, []uint16{40000}},
		{"two ports", 40000, 40001, safedial.Dialer{}, []uint16{40000, 40001}},
		{"five ports", 39998, 40002, safedial.Dialer{}, []uint16{39998, 39999, 40000, 40001, 40002}},
		{"LocalPorts", 39998, 40002, safedial.Dialer{LocalPorts: ports(40000, 40001)}, []uint16{40000, 40001}},
		{"LocalPorts, one port", 39998, 40002, safedial.Dialer{LocalPorts: ports(40000, 40000)}, []uint16{40000}},
		{"AvoidPorts", 39998, 40002, avoiding(safedial.Ports(39998, 39999, 40001)...), []uint16{40000, 40002}},
		{"AvoidPorts, that one too", 39998, 40002, avoiding(safedial.Ports(39998, 39999, 40000)...), []uint16{40001, 40002}},
	}
	isolated(t, func(t *testing.T) {
		requirePortRange(t, "AvoidPorts hold")
		nstest.Program(t, "ip", "iproute2")
		const there = "192.168.7.2:40000"
		require.NoError(t, netns.Elsewhere("192.168.7.1", "192.168.7.2", func() error {
			server, err := net.Listen("tcp", there)
			if err != nil {
				return err
			}
			t.Cleanup(func() { server.Close() })
			packets, err := net.ListenPacket("udp", there)
			if err != nil {
				return err
			}
			t.Cleanup(func() { packets.Close() })
			return nil
		}))
		for _, test := range tests {
			setLocalPorts(t, test.low, test.high)
			for _, network := range []string{"tcp", "udp"} {
				for kind, dial := range dialsOf(&test.dialer) {
					if kind == "NetDialer" && network == "udp" {
						continue // it uses one range beside the destination's port
					}
					t.Run(fmt.Sprintf("%s, %s of %s", test.name, network, kind), func(t *testing.T) {
						assert.ElementsMatch(t, test.want, exhaust(t, dial, network, there))
					})
				}
			}
		}
	})
}

// exhaust dials until no port is left, and returns the ports of the connections.
func exhaust(t *testing.T, dial dialFunc, network, address string) (used []uint16) {
	t.Helper()
	for range 10 {
		conn, err := dial(network, address)
		if err != nil {
			assert.True(t, noPort(err), "after %v: %v", used, err)
			return used
		}
		defer nstest.Reset(conn)
		used = append(used, portOf(conn))
	}
	return used
}
