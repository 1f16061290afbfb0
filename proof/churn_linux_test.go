package proof

import (
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

var churn = flag.Duration("churn", time.Second, "how long connections come and go at the limit of the ports")

// TestChurn has goroutines open and close more connections than there are local
// ports. Some find none; nothing else may happen.
func TestChurn(t *testing.T) { isolated(t, churnAtLimit) }

// TestChurnWithoutPortRange is the same on a kernel before 6.3.
func TestChurnWithoutPortRange(t *testing.T) { isolated(t, churnAtLimit, unix.IP_LOCAL_PORT_RANGE) }

func churnAtLimit(t *testing.T) {
	const goroutines = 32
	setLocalPorts(t, 40000, 40019)
	l := nstest.Echo(t, "127.0.0.1:40010")
	descriptors, running := nstest.OpenDescriptors(t), runtime.NumGoroutine()
	var dials, echoed, unavailable, self atomic.Int64
	d := safedial.Dialer{Timeout: 30 * time.Second, OnRetry: countSelf(&self)}
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
	isolated(t, func(t *testing.T) {
		const ports, rounds = 3900, 40
		nstest.RaiseDescriptorLimit(t, ports+500)
		address := nstest.LongBacklog(t, "127.0.0.1:9000", ports)()
		setLocalPorts(t, 40001, 40000+ports)
		for range ports {
			conn, err := safedial.Dial("tcp", address)
			require.NoError(t, err)
			defer conn.Close()
		}
		spent := map[string]time.Duration{}
		for range rounds {
			for kind, dial := range map[string]dialFunc{"net.Dialer": net.Dial, "safedial": safedial.Dial} {
				start := time.Now()
				_, err := dial("tcp", address)
				spent[kind] += time.Since(start)
				require.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
			}
		}
		t.Logf("%d dials without a port: %v", rounds, spent)
		assert.Less(t, spent["safedial"], 10*spent["net.Dialer"]+time.Second)
	})
}
