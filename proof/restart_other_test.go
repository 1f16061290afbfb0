//go:build !linux

package proof

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// TestServerRestarts starts a server again and again, on a port that a client dials while
// the server is down. The first dial comes from that port, and is sure to meet itself. No
// dial returns such a connection, and no start finds what a dial has left. It takes at most some seconds, because a refused dial takes two on Windows.
func TestServerRestarts(t *testing.T) {
	const restarts, dials, enough = 100, 10, 5 * time.Second
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()

	started := time.Now()
	n := 0
	for ; n < restarts && (n < 3 || time.Since(started) < enough); n++ {
		require.NoError(t, l.Close())
		d := safedial.Dialer{LocalAddr: l.Addr()}
		for i := 0; i < dials && (i == 0 || time.Since(started) < enough); i++ {
			conn, err := d.Dial("tcp", address)
			d.LocalAddr = nil
			if err == nil {
				require.Fail(t, "connected", "dial %d: from %s to %s", i, conn.LocalAddr(), conn.RemoteAddr())
			}
		}

		l, err = net.Listen("tcp", address)
		require.NoError(t, err, "start %d", n)
		conn, err := safedial.Dial("tcp", address)
		require.NoError(t, err)
		accepted, err := l.Accept()
		require.NoError(t, err)
		nstest.Reset(conn)
		nstest.Reset(accepted)
	}
	require.NoError(t, l.Close())
	t.Logf("%d restarts", n)
}
