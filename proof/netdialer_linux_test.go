package proof

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// TestNetDialerUDP has all that UDP of a NetDialer does: the kernel chooses the port from
// one range beside the destination's, and net does the rest, once.
func TestNetDialerUDP(t *testing.T) {
	isolated(t, func(t *testing.T) {
		requirePortRange(t, "NetDialer's UDP dials choose another port than the destination's")
		setLocalPorts(t, 40000, 40019)
		for _, address := range []string{"127.0.0.1:40010", "[::1]:40010", "127.0.0.1:40000", "127.0.0.1:40019"} {
			calls := 0
			d := safedial.Dialer{MaxRetries: 10, OnRetry: notRetried(t)}
			d.Control = func(string, string, syscall.RawConn) error {
				calls++
				return nil
			}
			dial := d.NetDialer().Dial
			used := map[uint16]bool{}
			for range 1000 {
				conn, err := dial("udp", address)
				require.NoError(t, err, address)
				used[portOf(conn)] = true
				value := uint32(optionOf(t, conn, unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE))
				r := ports(uint16(value), uint16(value>>16))
				require.False(t, r.Contains(nstest.AddrPort(conn.RemoteAddr()).Port()), "%s from %s", address, r)
				require.NotZero(t, value, "%s: no range", address)
				conn.Close()
			}
			assert.Len(t, used, 19, "%s: every port beside its own, and no other: %v", address, used)
			assert.Equal(t, 1000, calls, "%s: calls of the hook", address)
		}
	})
}
