package proof

import (
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/safedial/safedial"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

var fire = flag.Duration("fire", 2*time.Second, "how long a server restarts under fire")

// A volley is what came of a server that was restarted while clients dialled it.
type restartStats struct {
	restarts, blocked      int // times the server was to listen, and could not
	dials, greeted, fooled atomic.Int64
}

// restartUnderFire has eight clients dial a port, of a range of a hundred, as fast
// as they can, while its server stops and starts.
func restartUnderFire(t *testing.T, dial func(network, address string) (net.Conn, error)) *restartStats {
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
		l, err := net.Listen("tcp", address)
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
		v.fooled.Add(1)
	case err == nil:
		v.greeted.Add(1)
	}
}

func (v *restartStats) log(t *testing.T, who string) {
	t.Helper()
	t.Logf("%s: the server could not listen %d of %d times; %d dials, %d greeted, %d met themselves",
		who, v.blocked, v.restarts, v.dials.Load(), v.greeted.Load(), v.fooled.Load())
}

func TestRestartUnderFire(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		requirePortRange(t)
		v := restartUnderFire(t, safedial.Dial)
		v.log(t, "safedial")
		assert.Zero(t, v.blocked)
		assert.Zero(t, v.fooled.Load())
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
		v := restartUnderFire(t, d.Dial)
		v.log(t, "safedial without IP_LOCAL_PORT_RANGE")
		t.Logf("%d self-connections were made and discarded", met.Load())
		assert.LessOrEqual(t, v.blocked, max(1, v.restarts/200))
		assert.Zero(t, v.fooled.Load())
		assert.NotZero(t, v.greeted.Load())
		assert.NotZero(t, met.Load(), "the test does not show the effect")
	})
}

// TestRestartUnderFireWithNet is what the others are measured against.
func TestRestartUnderFireWithNet(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		v := restartUnderFire(t, net.Dial)
		v.log(t, "net.Dialer")
		assert.NotZero(t, v.blocked, "the test does not show the effect")
	})
}
