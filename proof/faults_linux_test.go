package proof

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// TestCancellation cancels a dial at each of its stages, and has deadlines pass there.
func TestCancellation(t *testing.T) {
	isolated(t, func(t *testing.T) {
		nstest.Serve(t, "tcp", "127.0.0.1:40000")
		nstest.FullBacklog(t, 9000)
		resolver := muteResolver(t)
		descriptors, goroutines := nstest.OpenDescriptors(t), runtime.NumGoroutine()
		for stage, address := range map[string]string{
			"before": "127.0.0.1:40000", "during resolution": "name.test:40000",
			"during connect": "127.0.0.1:9000", "in the hook": "127.0.0.1:40000",
		} {
			for _, local := range []net.Addr{nil, tcp("127.0.0.1", 0)} {
				for _, mptcp := range []bool{false, true} {
					for _, deadline := range []bool{false, true} {
						t.Run(fmt.Sprintf("%s, from %v, multipath %t, deadline %t", stage, local, mptcp, deadline), func(t *testing.T) {
							wait := 30 * time.Millisecond
							if stage == "before" {
								wait = 0
							}
							ctx, end := contextEnding(t, wait, deadline)
							d := safedial.Dialer{LocalAddr: local, Resolver: resolver}
							d.SetMultipathTCP(mptcp)
							if stage == "in the hook" {
								d.Control = func(string, string, syscall.RawConn) error { end(); return nil }
							}
							conn, err := d.DialContext(ctx, "tcp", address)
							require.Nil(t, conn)
							assertEnded(t, err, deadline)
							end()
						})
					}
				}
			}
		}
		nstest.AssertNothingLeft(t, descriptors, goroutines)
	})
}

// assertEnded asserts that err is that of a dial that was canceled, or that its
// deadline has ended.
func assertEnded(t *testing.T, err error, byDeadline bool) {
	t.Helper()
	var netErr net.Error
	require.ErrorAs(t, err, &netErr)
	assert.Equal(t, byDeadline, netErr.Timeout(), "%v", err)
	if !byDeadline {
		assert.ErrorIs(t, err, context.Canceled)
	}
}

// muteResolver returns a resolver whose server does not answer.
func muteResolver(t *testing.T) *net.Resolver {
	t.Helper()
	mute, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { mute.Close() })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := new(safedial.Dialer).DialContext(ctx, "udp", mute.LocalAddr().String())
		if err == nil {
			context.AfterFunc(ctx, func() { conn.Close() }) // or net waits for five seconds
		}
		return conn, err
	}}
}

// contextEnding returns a context that ends after a while, by its deadline or by being
// canceled. The function ends it so immediately.
func contextEnding(t *testing.T, wait time.Duration, byDeadline bool) (ctx context.Context, end func()) {
	t.Helper()
	if byDeadline {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		t.Cleanup(cancel)
		return ctx, func() { <-ctx.Done() }
	}
	ctx, cancel := context.WithCancel(t.Context())
	if wait <= 0 {
		cancel()
	}
	time.AfterFunc(wait, cancel)
	return ctx, cancel
}

// TestRandomCancellation cancels dials at any moment, that of success included:
// each gives a connection that works, or the cancellation.
func TestRandomCancellation(t *testing.T) {
	isolated(t, func(t *testing.T) {
		const goroutines = 8
		dials := nstest.Fewer(8_000)
		l := nstest.Echo(t, "127.0.0.1:40500")
		descriptors, running := nstest.OpenDescriptors(t), runtime.NumGoroutine()
		dialers := []*safedial.Dialer{
			{},
			{LocalAddr: tcp("127.0.0.1", 0)},
			{Timeout: time.Minute, Cancel: make(chan struct{})},
		}
		addresses := []string{l.Addr().String(), "localhost:40500", "127.0.0.1:40600"}
		var connected, canceled, refused atomic.Int64
		var group sync.WaitGroup
		for range goroutines {
			group.Go(func() {
				for range dials / goroutines {
					ctx, cancel := context.WithCancel(t.Context())
					timer := time.AfterFunc(time.Duration(rand.IntN(150))*time.Microsecond, cancel)
					conn, err := dialers[rand.IntN(len(dialers))].DialContext(ctx, "tcp", addresses[rand.IntN(len(addresses))])
					switch {
					case err == nil:
						connected.Add(1)
						cancel() // which must not touch it any more
						assert.Equal(t, "token", nstest.Ask(conn, "token"))
						nstest.Reset(conn)
					case errors.Is(err, context.Canceled):
						canceled.Add(1)
					case errors.Is(err, syscall.ECONNREFUSED):
						refused.Add(1)
					default:
						t.Errorf("%v", err)
					}
					timer.Stop()
					cancel()
				}
			})
		}
		group.Wait()
		t.Logf("%d dials: %d connected, %d canceled, %d refused", dials, connected.Load(), canceled.Load(), refused.Load())
		for _, n := range []*atomic.Int64{&connected, &canceled, &refused} {
			assert.NotZero(t, n.Load(), "the moments do not vary")
		}
		nstest.AssertNothingLeft(t, descriptors, running)
		nstest.RequireFree(t, 40600)
	})
}

// TestTooManyFiles has no descriptor left, before the dial or during it.
func TestTooManyFiles(t *testing.T) {
	isolated(t, func(t *testing.T) {
		setLocalPorts(t, 40000, 40003)
		nstest.Serve(t, "tcp", "127.0.0.1:9000")
		before := settled(t)
		var limit unix.Rlimit
		require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
		failed, worked := 0, 0
		for most := uint64(3); most < uint64(before)+8; most++ {
			lowered := unix.Rlimit{Cur: most, Max: limit.Max}
			require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &lowered))
			for _, network := range []string{"tcp", "udp"} {
				for _, address := range []string{"127.0.0.1:9000", "127.0.0.1:40000"} {
					conn, err := safedial.Dial(network, address)
					switch {
					case err == nil:
						require.False(t, safedial.IsSelfConnect(conn))
						nstest.Reset(conn)
						worked++
					case errors.Is(err, syscall.EMFILE):
						failed++
					default:
						require.ErrorIs(t, err, syscall.ECONNREFUSED)
					}
				}
			}
			require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
		}
		assert.NotZero(t, failed)
		assert.NotZero(t, worked)
		nstest.AssertNothingLeft(t, before, runtime.NumGoroutine())
	})
}

// settled makes the first dials of a process, which open what stays open, and returns
// how many descriptors there are when the server has closed its end.
func settled(t *testing.T) int {
	t.Helper()
	conn, err := safedial.Dial("udp", "127.0.0.1:9000")
	require.NoError(t, err)
	conn.Close()
	descriptors := nstest.OpenDescriptors(t)
	conn, err = safedial.Dial("tcp", "127.0.0.1:9000")
	require.NoError(t, err)
	nstest.AssertReal(t, conn)
	nstest.AssertNothingLeft(t, descriptors, runtime.NumGoroutine())
	return descriptors
}

// TestNoHost has the kernel say that there is no way to a host.
func TestNoHost(t *testing.T) {
	isolated(t, func(t *testing.T) {
		ip(t, "route", "add", "unreachable", "192.0.2.0/24")
		ip(t, "route", "add", "prohibit", "198.51.100.0/24")
		for address, want := range map[string]error{"192.0.2.1:80": syscall.EHOSTUNREACH, "198.51.100.1:80": syscall.EACCES} {
			for _, local := range []net.Addr{nil, new(net.TCPAddr)} {
				_, err := (&safedial.Dialer{LocalAddr: local}).Dial("tcp", address)
				assert.ErrorIs(t, err, want)
				parityCase{name: address, address: address, dialer: net.Dialer{LocalAddr: local}}.compare(t)
			}
		}
	})
}

// TestLinkDown dials, and cancels, an address behind a link whose other end is down.
func TestLinkDown(t *testing.T) {
	isolated(t, func(t *testing.T) {
		ip(t, "link", "add", "near", "type", "veth", "peer", "name", "far")
		ip(t, "addr", "add", "192.0.2.1/24", "dev", "near")
		ip(t, "link", "set", "near", "up")
		descriptors, goroutines := nstest.OpenDescriptors(t), runtime.NumGoroutine()
		for _, local := range []net.Addr{nil, new(net.TCPAddr)} {
			for _, deadline := range []bool{false, true} {
				ctx, _ := contextEnding(t, 30*time.Millisecond, deadline)
				_, err := (&safedial.Dialer{LocalAddr: local}).DialContext(ctx, "tcp", "192.0.2.2:80")
				assertEnded(t, err, deadline)
			}
		}
		nstest.AssertNothingLeft(t, descriptors, goroutines)
	})
}

// ip runs the command of that name. It skips the test on a kernel that lacks the kind
// of link, and where a sandbox refuses it.
func ip(t *testing.T, args ...string) {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), nstest.Program(t, "ip", "iproute2"), args...).CombinedOutput()
	for _, refusal := range []string{"Unknown device type", "not supported", "not permitted"} {
		if err != nil && strings.Contains(string(output), refusal) {
			nstest.Refused(t, fmt.Sprintf("ip %v: %s", args, output))
		}
	}
	require.NoError(t, err, "ip %v: %s", args, output)
}

// TestFailingSystemCalls has one system call after the other fail, as in a sandbox
// that forbids it: a dial gives a clear error or a connection with a real peer.
func TestFailingSystemCalls(t *testing.T) {
	for name, c := range map[string]struct {
		number uint32
		closed bool // without it no dial may succeed
	}{
		"getsockname": {unix.SYS_GETSOCKNAME, true},
		"getpeername": {unix.SYS_GETPEERNAME, false},
		"connect":     {unix.SYS_CONNECT, true},
		"setsockopt":  {unix.SYS_SETSOCKOPT, false},
		"getsockopt":  {unix.SYS_GETSOCKOPT, false},
		"ioctl":       {unix.SYS_IOCTL, false},
	} {
		t.Run(name, func(t *testing.T) {
			isolated(t, func(t *testing.T) { dialWithout(t, c.number, c.closed) })
		})
	}
}

func dialWithout(t *testing.T, number uint32, closed bool) {
	t.Helper()
	nstest.Serve(t, "tcp", "127.0.0.1:9000")
	setLocalPorts(t, 40000, 40001)
	descriptors := settled(t)
	nstest.FailSyscall(t, number, unix.EPERM)
	connected := 0
	for _, address := range []string{"127.0.0.1:9000", "127.0.0.1:9001", "127.0.0.1:40000", "127.0.0.1:40001"} {
		for _, local := range []*net.TCPAddr{nil, tcp("127.0.0.1", 0), tcp("127.0.0.1", 40000)} {
			// net itself waits for ever if getpeername(2) fails.
			d := safedial.Dialer{LocalAddr: local, Timeout: 50 * time.Millisecond}
			for _, dial := range dialsOf(&d) {
				conn, err := dial("tcp", address)
				if conn == nil {
					nstest.OpError(t, err)
					if address == "127.0.0.1:9001" && local == nil && number == unix.SYS_GETSOCKNAME {
						// On a busy machine the refusal may not be there yet when the hook looks for it.
						for i := 0; i < 100 && !errors.Is(err, unix.ECONNREFUSED); i++ {
							_, err = dial("tcp", address)
						}
						assert.ErrorIs(t, err, unix.ECONNREFUSED, "connect(2)'s own error comes first")
					}
					continue
				}
				require.False(t, closed, "%s from %v: connected unchecked", address, local)
				require.Equal(t, "127.0.0.1:9000", address)
				connected++
				nstest.Reset(conn)
			}
		}
	}
	t.Logf("%d connected", connected)
	nstest.AssertNothingLeft(t, descriptors, runtime.NumGoroutine())
}
