package bpf

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

// TestBindStrangers floods the only local port with datagrams of a stranger. A dial
// reads one if it arrives between the choice of the port and the end of connect(2),
// which has the kernel drop them. With net.Dialer both are in connect(2). A bind(2)
// before it makes that time several times as long.
func TestBindStrangers(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.RequirePortRange(t, "a server can start whenever it wants")
		const port = 40000
		nstest.SetLocalPorts(t, port, port)
		flood(t, port)
		dialers := dialers(nil)
		strangers := make(map[string]int)
		dials := 0
		for start := time.Now(); strangers["net.Dialer"] < 500 && time.Since(start) < 5*time.Second; dials++ {
			for name, d := range dialers {
				if readsStranger(t, d) {
					strangers[name]++
				}
			}
		}
		t.Logf("of %d dials each: %v", dials, strangers)
		for name, n := range strangers {
			assert.LessOrEqual(t, n, 2*strangers["net.Dialer"]+50, name)
		}
	})
}

// readsStranger dials a port that nobody has, and reports whether the socket has
// received a datagram all the same.
func readsStranger(t *testing.T, d dialer) bool {
	t.Helper()
	conn, err := d.Dial("udp", "127.0.0.1:9")
	require.NoError(t, err)
	defer conn.Close()
	raw, err := conn.(*net.UDPConn).SyscallConn()
	require.NoError(t, err)
	received := false
	require.NoError(t, raw.Control(func(fd uintptr) {
		_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_DONTWAIT)
		received = err == nil
	}))
	return received
}

// flood sends datagrams to the port until the test ends.
func flood(t *testing.T, port int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	loopback := [4]byte{127, 0, 0, 1}
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Port: 9999, Addr: loopback}))
	var end atomic.Bool
	ended := make(chan error)
	go func() {
		var err error
		for err == nil && !end.Load() {
			err = unix.Sendto(fd, []byte("stranger"), 0, &unix.SockaddrInet4{Port: port, Addr: loopback})
		}
		ended <- err
	}()
	t.Cleanup(func() {
		end.Store(true)
		assert.NoError(t, <-ended, "the flood has ended before the test")
		assert.NoError(t, unix.Close(fd))
	})
}
