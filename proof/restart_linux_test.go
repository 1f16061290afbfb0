package proof

import (
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/safedial/safedial"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

var fire = flag.Duration("fire", 2*time.Second, "how long a server restarts under fire")

func TestRestartUnderFire(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		if !portable {
			requirePortRange(t)
		}
		v := restartUnderFire(t, safedial.Dial, listen)
		v.log(t, "safedial")
		assert.Zero(t, v.blocked)
		assert.Zero(t, v.selfConnected.Load())
		assert.NotZero(t, v.greeted.Load())
	})
}

func TestRestartUnderFireWithoutPortRange(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		withoutOptions(t, unix.IP_LOCAL_PORT_RANGE)
		var met atomic.Int64
		d := safedial.Dialer{OnRetry: func(_ context.Context, r safedial.Retry) {
			if errors.Is(r.Err, safedial.ErrSelfConnect) {
				met.Add(1)
			}
		}}
		v := restartUnderFire(t, d.Dial, listen)
		v.log(t, "safedial without IP_LOCAL_PORT_RANGE")
		t.Logf("%d self-connections were made and discarded", met.Load())
		assert.LessOrEqual(t, v.blocked, max(1, v.restarts/200))
		assert.Zero(t, v.selfConnected.Load())
		assert.NotZero(t, v.greeted.Load())
		assert.NotZero(t, met.Load(), "the test does not show the effect")
	})
}

// TestRestartUnderFireWithNet is what the others are measured against.
func TestRestartUnderFireWithNet(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		v := restartUnderFire(t, net.Dial, net.Listen)
		v.log(t, "net.Dialer")
		assert.NotZero(t, v.blocked, "the test does not show the effect")
	})
}

// TestServersStartUnderFire starts a server 1,000 times in ranges of several sizes,
// while clients dial its port.
func TestServersStartUnderFire(t *testing.T) {
	t.Parallel()
	nstest.Run(t, func(t *testing.T) {
		if !portable {
			requirePortRange(t)
		}
		const starts = 1000
		for _, width := range []uint16{4, 5, 20, 100} {
			for _, first := range []uint16{40000, 40001} {
				nstest.SetLocalPorts(t, first, first+width-1)
				failed, self := startUnderFire(t, "127.0.0.1:40002", starts/8)
				assert.Zero(t, failed, "%d ports from %d", width, first)
				assert.Zero(t, self, "%d ports from %d", width, first)
			}
		}
	})
}

// TestRestartAfterSelfConnections has each of 400 starts of a server follow a dial of
// its port from the only port that there is.
func TestRestartAfterSelfConnections(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, onlyPort, onlyPort)
		for i := range 400 {
			_, err := safedial.Dial("tcp", "127.0.0.1:40000")
			require.ErrorIs(t, err, safedial.ErrSelfConnect)
			l, err := net.Listen("tcp", "127.0.0.1:40000")
			require.NoError(t, err, "start %d is blocked by what the dial has left", i)
			l.Close()
		}
	})
}

// A restartStats is what came of a server that was restarted while clients dialed it.
type restartStats struct {
	restarts, blocked             int // times the server was to listen, and could not
	dials, greeted, selfConnected atomic.Int64
}

// restartUnderFire has eight clients dial a port, of a range of a hundred, as fast
// as they can, while its server stops and starts.
func restartUnderFire(t *testing.T, dial func(network, address string) (net.Conn, error), listen func(network, address string) (net.Listener, error)) *restartStats {
	t.Helper()
	const address, clients = "127.0.0.1:40050", 8
	nstest.SetLocalPorts(t, 40000, 40099)
	v := new(restartStats)
	start, enough := time.Now(), int(*fire/(60*time.Millisecond))
	ctx, cancel := context.WithTimeout(t.Context(), 10**fire)
	defer cancel()
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			for ctx.Err() == nil {
				v.dials.Add(1)
				if conn, err := dial("tcp", address); err == nil {
					v.talk(conn)
				}
			}
		})
	}
	for time.Since(start) < *fire || v.restarts < enough {
		v.restarts++
		l, err := listen("tcp", address)
		if err != nil {
			v.blocked++
		} else {
			nstest.GreetFor(l, 3*time.Millisecond)
		}
		select { // the port is dead for a while
		case <-ctx.Done():
			t.Fatalf("%d restarts in %s", v.restarts, time.Since(start))
		case <-time.After(3 * time.Millisecond):
		}
	}
	cancel()
	group.Wait()
	return v
}

// listen starts a server. Elsewhere than on Linux a socket can be connected to itself
// until net or safedial has checked it; a start that meets one may be repeated for a
// second, of the minute that net.Dialer would take.
func listen(network, address string) (net.Listener, error) {
	for start := time.Now(); ; runtime.Gosched() {
		l, err := net.Listen(network, address)
		if err == nil || !portable || time.Since(start) > time.Second {
			return l, err
		}
	}
}

// talk tells whether who is at the other end greets, or repeats what it hears.
func (v *restartStats) talk(conn net.Conn) {
	defer nstest.Reset(conn)
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := io.WriteString(conn, "a client\n"); err != nil {
		return
	}
	text := make([]byte, len(nstest.Greeting))
	n, err := io.ReadFull(conn, text)
	switch {
	case !strings.HasPrefix(nstest.Greeting, string(text[:n])):
		v.selfConnected.Add(1)
	case err == nil:
		v.greeted.Add(1)
	}
}

func (v *restartStats) log(t *testing.T, who string) {
	t.Helper()
	t.Logf("%s: the server could not listen %d of %d times; %d dials, %d greeted, %d met themselves",
		who, v.blocked, v.restarts, v.dials.Load(), v.greeted.Load(), v.selfConnected.Load())
}

// startUnderFire returns how many of n starts fail while four clients dial, before and
// after each, and how many clients meet themselves.
func startUnderFire(t *testing.T, address string, n int) (failed int, self int64) {
	t.Helper()
	stop := make(chan struct{})
	var group sync.WaitGroup
	var dials, met atomic.Int64
	for range 4 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				dials.Add(1)
				if conn, err := safedial.Dial("tcp", address); err == nil {
					if safedial.IsSelfConnect(conn) {
						met.Add(1)
					}
					nstest.Reset(conn)
				}
			}
		})
	}
	underFire := func() {
		for enough := dials.Load() + 8; dials.Load() < enough; {
			runtime.Gosched()
		}
	}
	start := time.Now()
	for range n {
		l, err := listen("tcp", address)
		underFire()
		if err != nil {
			failed++
			continue
		}
		l.Close()
		underFire()
	}
	t.Logf("%d starts and %d dials in %s", n, dials.Load(), time.Since(start).Round(time.Millisecond))
	close(stop)
	group.Wait()
	return failed, met.Load()
}
