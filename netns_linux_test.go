package safedial

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/safedial/safedial/internal/nstest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestOwnHosts has names resolve in the namespace by its own hosts file.
func TestOwnHosts(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.Hosts(t, nstest.IPv4Localhost+"192.0.2.1 only.test\n")
		for name, want := range map[string]string{"localhost": "127.0.0.1", "only.test": "192.0.2.1"} {
			addrs, err := net.DefaultResolver.LookupHost(t.Context(), name)
			require.NoError(t, err)
			assert.Equal(t, []string{want}, addrs)
		}
	})
}

// setLocalPorts sets the namespace's local port range, and has the library read it.
func setLocalPorts(t *testing.T, r PortRange) {
	t.Helper()
	nstest.SetLocalPorts(t, r.Low, r.High)
	cachedPorts.Store(nil)
}

// takeAllPorts narrows the local port range to r, and connects to address from
// each port of it, until the test ends.
func takeAllPorts(t *testing.T, address string, r PortRange) {
	t.Helper()
	t.Cleanup(holdPorts(t, address, r))
}

// holdPorts is takeAllPorts until release is called. A port that a server has is left
// to it.
func holdPorts(t *testing.T, address string, r PortRange) (release func()) {
	t.Helper()
	setLocalPorts(t, r)
	var conns []net.Conn
	for port := r.Low; port <= r.High; port++ {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)}}
		conn, err := d.Dial("tcp", address)
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		}
		require.NoError(t, err)
		conns = append(conns, conn)
	}
	return func() {
		for _, conn := range conns {
			hangUp(conn)
		}
		setLocalPorts(t, PortRange{32768, 60999})
	}
}

// remember makes the library take r for the local port range, for a tenth of a second.
func remember(r PortRange) {
	cachedPorts.Store(&portState{local: r, known: true, read: time.Now()})
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

// assertNothingLeft waits until no more descriptors and goroutines are there than
// before, but for that of the wait.
func assertNothingLeft(t *testing.T, descriptors, goroutines int) {
	t.Helper()
	assert.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.LessOrEqual(c, openDescriptors(t), descriptors, "descriptors")
		assert.LessOrEqual(c, runtime.NumGoroutine(), goroutines+1, "goroutines")
	}, 20*time.Second, 10*time.Millisecond)
}

func raiseDescriptorLimit(t *testing.T, want uint64) {
	t.Helper()
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	if limit.Max < want {
		nstest.Refused(t, fmt.Sprintf("only %d descriptors are allowed", limit.Max))
	}
	limit.Cur = max(limit.Cur, want)
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
}
