package proof

import (
	"context"
	"flag"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

var load = flag.Duration("load", time.Second, "how long a server restarts while clients dial its port")

// TestRestartUnderLoad restarts a server in ranges of several sizes, while clients
// dial its port.
func TestRestartUnderLoad(t *testing.T) {
	isolated(t, func(t *testing.T) {
		if !portable {
			requirePortRange(t, "a server can start whenever it wants")
		}
		for _, width := range []uint16{4, 5, 20, 100} {
			for _, first := range []uint16{40000, 40001} {
				v := restartUnderLoad(t, safedial.Dial, listen, ports(first, first+width-1), shorter(*load/8))
				assert.Zero(t, v.blocked, "%d ports from %d", width, first)
				assert.Zero(t, v.selfConnected.Load(), "%d ports from %d", width, first)
				assert.NotZero(t, v.greeted.Load(), "%d ports from %d", width, first)
			}
		}
	})
}

// TestRestartUnderLoadWithoutPortRange is the same on a kernel before 6.3, where a
// socket can be connected to itself for a moment.
func TestRestartUnderLoadWithoutPortRange(t *testing.T) {
	isolated(t, func(t *testing.T) {
		var met atomic.Int64
		d := safedial.Dialer{OnRetry: countSelf(&met)}
		v := restartUnderLoad(t, d.Dial, listen, ports(40000, 40099), shorter(*load/2))
		t.Logf("%d self-connections were made and discarded", met.Load())
		assert.LessOrEqual(t, v.blocked, max(1, v.restarts/200))
		assert.Zero(t, v.selfConnected.Load())
		assert.NotZero(t, v.greeted.Load())
		assert.NotZero(t, met.Load(), "the test does not show the effect")
	}, unix.IP_LOCAL_PORT_RANGE)
}

// TestRestartUnderLoadWithNet is what the others are measured against.
func TestRestartUnderLoadWithNet(t *testing.T) {
	isolated(t, func(t *testing.T) {
		v := restartUnderLoad(t, net.Dial, net.Listen, ports(40000, 40099), shorter(*load/2))
		assert.NotZero(t, v.blocked, "the test does not show the effect")
	})
}

// TestRestartAfterSelfConnections shows that a self-connection leaves no TIME_WAIT. Each
// start of a server follows a dial of its port from the only port that there is.
func TestRestartAfterSelfConnections(t *testing.T) {
	isolated(t, func(t *testing.T) {
		setLocalPorts(t, onlyPort, onlyPort)
		for i := range nstest.Fewer(400) {
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

// restartUnderLoad has eight clients dial a port as fast as they can, while its server
// stops and starts: at least twenty times, and after some dials each.
func restartUnderLoad(
	t *testing.T,
	dial dialFunc,
	listen func(network, address string) (net.Listener, error),
	system safedial.PortRange,
	d time.Duration,
) *restartStats {
	t.Helper()
	const address, clients = "127.0.0.1:40002", 8
	setLocalPorts(t, system.Low, system.High)
	v := new(restartStats)
	dialed := make(chan struct{}, clients)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute+10*d)
	defer cancel()
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			for ctx.Err() == nil {
				v.dials.Add(1)
				if conn, err := dial("tcp", address); err == nil {
					v.talk(conn)
				}
				select {
				case dialed <- struct{}{}:
				default:
				}
				runtime.Gosched() // or it is the server's turn once in many milliseconds
			}
		})
	}
	awaitDials := func() {
		for range 2 * clients { // of which half may be over already
			select {
			case <-dialed:
			case <-ctx.Done():
				t.Fatalf("%d restarts", v.restarts)
			}
		}
	}
	for start := time.Now(); time.Since(start) < d || v.restarts < 20; {
		v.restarts++
		l, err := listen("tcp", address)
		if err != nil {
			v.blocked++
		} else {
			var server sync.WaitGroup
			server.Go(func() { nstest.GreetFor(l, time.Minute) })
			awaitDials()
			l.Close()
			server.Wait()
		}
		awaitDials()
	}
	cancel()
	group.Wait()
	t.Logf("in %s the server could not listen %d of %d times; %d dials, %d greeted, %d met themselves",
		system, v.blocked, v.restarts, v.dials.Load(), v.greeted.Load(), v.selfConnected.Load())
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
