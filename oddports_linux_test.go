//go:build !safedial_portable

package safedial_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// TestEveryPortOfOddRange dials until every port is used of ranges with an odd number
// of them, from which connect(2) leaves one out before Linux 6.8.
func TestEveryPortOfOddRange(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.RequirePortRange(t)
		nstest.SetLocalPorts(t, 40000, 40099)
		l, err := net.Listen("tcp", "127.0.0.1:9000")
		require.NoError(t, err)
		defer l.Close()
		first := uint16(40000)
		for _, n := range []uint16{3, 5, 9} {
			d := safedial.Dialer{LocalPorts: safedial.PortRange{Low: first, High: first + n - 1}}
			first += n
			for i := range n {
				conn, err := d.Dial("tcp", l.Addr().String())
				require.NoError(t, err, "%d of %d", i, n)
				require.NoError(t, conn.(*net.TCPConn).SetLinger(0))
				defer conn.Close()
			}
			_, err := d.Dial("tcp", l.Addr().String())
			assert.ErrorIs(t, err, unix.EADDRNOTAVAIL)
		}
	})
}
