package proof

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
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

var (
	soak  = flag.Duration("soak", time.Second/2, "how long the soak tests run")
	churn = flag.Duration("churn", time.Second/2, "how long connections come and go at the limit of the ports")
)

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
	deadline := time.Now().Add(shorter(*churn))
	var group, first sync.WaitGroup
	first.Add(goroutines)
	for id := range goroutines {
		group.Go(func() {
			for i := 0; i == 0 || time.Now().Before(deadline); i++ {
				dials.Add(1)
				conn, err := d.Dial("tcp", l.Addr().String())
				if i == 0 { // all hold what they have got, so that the limit is reached at any speed
					first.Done()
					first.Wait()
				}
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
	t.Logf(
		"%d dials: %d echoed, %d found no port, %d self-connections discarded",
		dials.Load(),
		echoed.Load(),
		unavailable.Load(),
		self.Load(),
	)
	assert.NotZero(t, unavailable.Load(), "the limit was not reached")
	assert.NotZero(t, echoed.Load())
	nstest.AssertNothingLeft(t, descriptors, running)
}

// soakStats are what a soak test counts.
type soakStats struct {
	dials, connected, self                       atomic.Int64
	refused, noPort, canceled, late, resetByPeer atomic.Int64
	wrong                                        atomic.Pointer[string]
}

func (s *soakStats) String() string {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return fmt.Sprintf(
		"%d dials, %d connected, %d self-connections discarded; "+
			"refused %d, no port %d, canceled %d, late %d, reset %d; heap %d KiB, %d goroutines",
		s.dials.Load(),
		s.connected.Load(),
		s.self.Load(),
		s.refused.Load(),
		s.noPort.Load(),
		s.canceled.Load(),
		s.late.Load(),
		s.resetByPeer.Load(),
		memory.HeapAlloc/1024,
		runtime.NumGoroutine(),
	)
}

// complete reports whether dials of all kinds that must be there were.
func (s *soakStats) complete() bool { return s.connected.Load() > 0 && s.refused.Load() > 0 }

func (s *soakStats) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.wrong.CompareAndSwap(nil, &text)
}

// TestSoak mixes dials of all kinds, to servers that come and go, and fails on the
// first that goes wrong.
func TestSoak(t *testing.T) { isolated(t, soakAll) }

// TestSoakWithoutPortRange is the same on a kernel before 6.3.
func TestSoakWithoutPortRange(t *testing.T) { isolated(t, soakAll, unix.IP_LOCAL_PORT_RANGE) }

func soakAll(t *testing.T) {
	const workers = 16
	setLocalPorts(t, 40000, 40063)
	nstest.Echo(t, "127.0.0.1:40010")
	nstest.Echo(t, "[::1]:40011")
	nstest.FullBacklog(t, 9000)
	descriptors, running := nstest.OpenDescriptors(t), runtime.NumGoroutine()
	s, start := new(soakStats), time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), shorter(*soak))
	defer cancel()
	var group sync.WaitGroup
	group.Go(func() { s.restart(ctx, t, 40020) })
	for range workers {
		group.Go(func() {
			// On a slow machine it goes on until something was connected and something refused.
			for (ctx.Err() == nil || !s.complete() && time.Since(start) < time.Minute) && s.wrong.Load() == nil {
				s.once()
			}
		})
	}
	ticker := time.NewTicker(max(*soak/10, time.Second))
	defer ticker.Stop()
	for ctx.Err() == nil && s.wrong.Load() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
			t.Logf("%s, %d descriptors", s, nstest.OpenDescriptors(t))
		}
	}
	cancel()
	group.Wait()
	t.Logf("%s", s)
	if wrong := s.wrong.Load(); wrong != nil {
		t.Fatal(*wrong)
	}
	require.NotZero(t, s.connected.Load())
	require.NotZero(t, s.refused.Load())
	nstest.AssertNothingLeft(t, descriptors, running)
	for _, port := range []uint16{40020, 40030, 40031} {
		nstest.RequireFree(t, port)
	}
}

// restart has a server come and go. A connection to elsewhere may have its port,
// but never one to itself, alive or in TIME_WAIT.
func (s *soakStats) restart(ctx context.Context, t *testing.T, port uint16) {
	self := fmt.Sprintf("0100007F:%04X 0100007F:%04X ", port, port)
	for ctx.Err() == nil && s.wrong.Load() == nil {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			nstest.GreetFor(l, time.Duration(rand.IntN(20))*time.Millisecond)
		} else if !errors.Is(err, syscall.EADDRINUSE) {
			s.fail("the server cannot listen: %v", err)
		}
		for _, socket := range nstest.SocketsOn(t, port) {
			const timeWait, closing = "06", "0B"
			if fields := strings.Fields(
				socket,
			); strings.Contains(socket, self) &&
				(fields[3] == timeWait || fields[3] == closing) {
				s.fail("left behind: %s", socket)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(rand.IntN(20)) * time.Millisecond):
		}
	}
}

// once dials in one way of many, and checks that what comes of it is what may.
func (s *soakStats) once() {
	target := []struct {
		network, address string
		echoes           bool
	}{
		{"tcp", "127.0.0.1:40010", true},
		{"tcp", "localhost:40010", true},
		{"tcp4", ":40010", true},
		{"tcp6", "[::1]:40011", true},
		{"tcp", "127.0.0.1:40020", false}, // comes and goes
		{"tcp", "127.0.0.1:40030", false}, // nobody
		{"tcp", "[::1]:40031", false},
		{"tcp", "0.0.0.0:40030", false},
		{"tcp", "127.0.0.1:9000", false}, // silent
		{"udp", "127.0.0.1:40040", false},
	}[rand.IntN(10)]
	d := safedial.Dialer{Timeout: 20 * time.Second, OnRetry: countSelf(&s.self)}
	if rand.IntN(4) == 0 && target.network == "tcp" {
		d.SetMultipathTCP(true)
	}
	if rand.IntN(4) == 0 && target.address[0] == '1' && target.network == "tcp" {
		d.LocalAddr = tcp("127.0.0.1", 0)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	switch {
	case target.address == "127.0.0.1:9000":
		d.Timeout = time.Duration(1+rand.IntN(5)) * time.Millisecond
	case rand.IntN(8) == 0:
		defer time.AfterFunc(time.Duration(rand.IntN(200))*time.Microsecond, cancel).Stop()
	}
	s.dials.Add(1)
	conn, err := d.DialContext(ctx, target.network, target.address)
	if err != nil {
		s.count(target.address, err)
		return
	}
	defer nstest.Reset(conn)
	s.connected.Add(1)
	if safedial.IsSelfConnect(conn) {
		s.fail("%s is connected to itself, %s", target.address, conn.LocalAddr())
	}
	if token := fmt.Sprint(rand.Uint64()); target.echoes {
		if answer := nstest.Ask(conn, token); answer != token {
			s.fail("%s answers %q to %q", target.address, answer, token)
		}
	}
}

func (s *soakStats) count(address string, err error) {
	var netErr net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		s.refused.Add(1)
	case noPort(err):
		s.noPort.Add(1)
	case errors.Is(err, context.Canceled):
		s.canceled.Add(1)
	case errors.Is(err, syscall.ECONNRESET):
		s.resetByPeer.Add(1)
	case address == "127.0.0.1:9000" && errors.As(err, &netErr) && netErr.Timeout():
		s.late.Add(1)
	default:
		s.fail("%s: %v", address, err)
	}
}
