package proof

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/safedial/safedial"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

var churn = flag.Duration("churn", 2*time.Second, "how long connections come and go around the limit")

// TestChurn has goroutines open and close more connections than there are local
// ports. Some find none; nothing else may happen.
func TestChurn(t *testing.T) {
	t.Parallel()
	nstest.Run(t, churnAround)
}

// TestChurnWithoutPortRange is the same on a kernel before 6.3.
func TestChurnWithoutPortRange(t *testing.T) {
	t.Parallel()
	nstest.Run(t, func(t *testing.T) {
		withoutOptions(t, unix.IP_LOCAL_PORT_RANGE)
		churnAround(t)
	})
}

func churnAround(t *testing.T) {
	const goroutines = 32
	nstest.SetLocalPorts(t, 40000, 40019)
	l := nstest.Echo(t, "127.0.0.1:40010")
	descriptors, running := nstest.OpenDescriptors(t), runtime.NumGoroutine()
	var dials, echoed, unavailable, self atomic.Int64
	d := safedial.Dialer{Timeout: 30 * time.Second, OnRetry: func(_ context.Context, r safedial.Retry) {
		if errors.Is(r.Err, safedial.ErrSelfConnect) {
			self.Add(1)
		}
	}}
	deadline := time.Now().Add(*churn)
	var group sync.WaitGroup
	for id := range goroutines {
		group.Go(func() {
			for i := 0; time.Now().Before(deadline); i++ {
				dials.Add(1)
				conn, err := d.Dial("tcp", l.Addr().String())
				if err != nil {
					unavailable.Add(1)
					if !assert.ErrorIs(t, err, syscall.EADDRNOTAVAIL) {
						return
					}
					continue
				}
				token := fmt.Sprintf("%4d %12d", id, i)
				if !assert.Equal(t, token, nstest.Ask(conn, token)) {
					return
				}
				echoed.Add(1)
				if rand.IntN(4) == 0 {
					time.Sleep(time.Millisecond)
				}
				nstest.Reset(conn)
			}
		})
	}
	group.Wait()
	t.Logf("%d dials: %d echoed, %d found no port, %d self-connections discarded", dials.Load(), echoed.Load(), unavailable.Load(), self.Load())
	assert.NotZero(t, unavailable.Load(), "the limit was not reached")
	assert.NotZero(t, echoed.Load())
	nstest.AssertNothingLeft(t, descriptors, running)
}

// TestExhaustedCosts compares what it costs to find that no port is left, in a
// range of many. It shows the figures, and fails only if they are of another order.
func TestExhaustedCosts(t *testing.T) {
	t.Parallel()
	nstest.Run(t, func(t *testing.T) {
		const ports = 4000
		nstest.RaiseDescriptorLimit(t, ports+500)
		l, err := net.Listen("tcp", "127.0.0.1:9000")
		require.NoError(t, err)
		defer l.Close()
		go func() { // the server's ends are closed at once, for want of descriptors
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				conn.Close()
			}
		}()
		nstest.SetLocalPorts(t, 40001, 40000+ports)
		for range ports {
			conn, err := safedial.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			defer conn.Close()
		}
		var withNet, withSafedial time.Duration
		const rounds = 40
		d := safedial.Dialer{}
		for range rounds {
			start := time.Now()
			_, err := net.Dial("tcp", l.Addr().String())
			withNet += time.Since(start)
			require.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
			start = time.Now()
			_, err = d.Dial("tcp", l.Addr().String())
			withSafedial += time.Since(start)
			require.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
		}
		t.Logf("%d dials without a port: net.Dialer %s, safedial %s", rounds, withNet, withSafedial)
		assert.Less(t, withSafedial, 10*withNet+time.Second)
	})
}
