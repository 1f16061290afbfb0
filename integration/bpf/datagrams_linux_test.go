package bpf

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

// TestUnrelatedDatagrams shows that a UDP dial by safedial receives a datagram of an unrelated
// socket no more often than one by net.Dialer. It receives one that arrives between the choice
// of the local port and the end of connect(2), from which the kernel drops them. With
// net.Dialer both are in connect(2). A bind(2) before it would make that time several times as
// long.
func TestUnrelatedDatagrams(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.RequirePortRange(t, "a server can start whenever it wants")
		const port = 40000
		nstest.SetLocalPorts(t, port, port)
		flood(t, port)
		dialers := dialers(nil)
		received := make(map[string]int)
		dials := 0
		end := time.Now().Add(5 * time.Second)
		for ; received["net.Dialer"] < 500 && time.Now().Before(end); dials++ {
			for name, d := range dialers {
				if receivesDatagram(t, d) {
					received[name]++
				}
			}
		}
		t.Logf("of %d dials each: %v", dials, received)
		for name, n := range received {
			assert.LessOrEqual(t, n, 2*received["net.Dialer"]+50, name)
		}
	})
}

// receivesDatagram dials a closed port, and reports whether the socket has received a datagram.
func receivesDatagram(t *testing.T, d dialer) bool {
	t.Helper()
	conn, err := d.Dial("udp", "127.0.0.1:9")
	require.NoError(t, err)
	defer conn.Close()
	return nstest.OnSocket(nstest.RawConn(t, conn), func(fd int) error {
		_, _, err := unix.Recvfrom(fd, make([]byte, 1), unix.MSG_DONTWAIT)
		return err
	}) == nil
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
			to := &unix.SockaddrInet4{Port: port, Addr: loopback}
			err = unix.Sendto(fd, []byte("unrelated"), 0, to)
		}
		ended <- err
	}()
	t.Cleanup(func() {
		end.Store(true)
		assert.NoError(t, <-ended, "the flood has ended before the test")
		assert.NoError(t, unix.Close(fd))
	})
}
