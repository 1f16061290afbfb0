package proof

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
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

// TestCancellation cancels a dial at each of its stages, and has deadlines pass
// there.
func TestCancellation(t *testing.T) {
	t.Parallel()
	nstest.Run(t, func(t *testing.T) {
		nstest.Serve(t, "tcp", "127.0.0.1:40000")
		nstest.FullBacklog(t, 9000)
		mute, err := net.ListenPacket("udp", "127.0.0.1:0") // a DNS server that never answers
		require.NoError(t, err)
		defer mute.Close()
		resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(safedial.Dialer).DialContext(ctx, "udp", mute.LocalAddr().String())
		}}
		canceledBy := func(cancel *context.CancelFunc) func(string, string, syscall.RawConn) error {
			return func(string, string, syscall.RawConn) error { (*cancel)(); return nil }
		}
		descriptors, goroutines := nstest.OpenDescriptors(t), runtime.NumGoroutine()
		for _, deadline := range []bool{false, true} {
			for name, c := range map[string]struct {
				address string
				before  bool // the context is done before the dial, else 30 ms into it
				set     func(d *safedial.Dialer, cancel *context.CancelFunc)
			}{
				"before": {"127.0.0.1:40000", true, nil},
				"before, from an address": {"127.0.0.1:40000", true, func(d *safedial.Dialer, _ *context.CancelFunc) {
					d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}
				}},
				"during resolution": {"name.test:40000", false, func(d *safedial.Dialer, _ *context.CancelFunc) { d.Resolver = resolver }},
				"during connect":    {"127.0.0.1:9000", false, nil},
				"during connect, from an address": {"127.0.0.1:9000", false, func(d *safedial.Dialer, _ *context.CancelFunc) {
					d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}
				}},
				"during connect, multipath": {"127.0.0.1:9000", false, func(d *safedial.Dialer, _ *context.CancelFunc) { d.SetMultipathTCP(true) }},
				"in the hook":               {"127.0.0.1:40000", false, func(d *safedial.Dialer, cancel *context.CancelFunc) { d.Control = canceledBy(cancel) }},
				"in the hook, from an address": {"127.0.0.1:40000", false, func(d *safedial.Dialer, cancel *context.CancelFunc) {
					d.Control = canceledBy(cancel)
					d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}
				}},
			} {
				t.Run(fmt.Sprintf("%s, deadline %t", name, deadline), func(t *testing.T) {
					ctx, cancel := contextEnding(t, c.before, deadline)
					defer cancel()
					var d safedial.Dialer
					if c.set != nil {
						c.set(&d, &cancel)
					}
					conn, err := d.DialContext(ctx, "tcp", c.address)
					require.Nil(t, conn)
					var netErr net.Error
					require.ErrorAs(t, err, &netErr)
					assert.Equal(t, deadline, netErr.Timeout(), "%v", err)
					if !deadline {
						assert.ErrorIs(t, err, context.Canceled)
					}
				})
			}
		}
		nstest.AssertNothingLeft(t, descriptors, goroutines)
	})
}

// ending returns a context that is done, or is in 30 ms, by its deadline or by
// being canceled. Its cancel function ends it so at once.
func contextEnding(t *testing.T, now, byDeadline bool) (context.Context, context.CancelFunc) {
	t.Helper()
	wait := 30 * time.Millisecond
	if now {
		wait = 0
	}
	if byDeadline {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		return ctx, func() { <-ctx.Done(); cancel() }
	}
	ctx, cancel := context.WithCancel(t.Context())
	if now {
		cancel()
		return ctx, cancel
	}
	timer := time.AfterFunc(wait, cancel)
	return ctx, func() { timer.Stop(); cancel() }
}

// TestRandomCancellation cancels dials at any moment, that of success included:
// each gives a connection that works, or the cancellation.
func TestRandomCancellation(t *testing.T) {
	t.Parallel()
	nstest.Run(t, func(t *testing.T) {
		const dials, goroutines = 20_000, 8
		l := nstest.Echo(t, "127.0.0.1:40500")
		descriptors, running := nstest.OpenDescriptors(t), runtime.NumGoroutine()
		dialers := []*safedial.Dialer{{}, {LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}, {Timeout: time.Minute, Cancel: make(chan struct{})}}
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

// TestTooManyFiles has no descriptor left, before the dial or while it holds one.
func TestTooManyFiles(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, 40000, 40003)
		nstest.Serve(t, "tcp", "127.0.0.1:9000")
		_, _ = safedial.Dial("udp", "127.0.0.1:9000") // what the first dial opens for good
		before := settled(t, func() {
			conn, err := safedial.Dial("tcp", "127.0.0.1:9000")
			require.NoError(t, err)
			nstest.Reset(conn)
		})
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

// settled runs f, which opens what the first dial of a process opens for good, and
// returns how many descriptors there are when the rest is closed.
func settled(t *testing.T, f func()) int {
	t.Helper()
	f()
	least := nstest.OpenDescriptors(t)
	for same := 0; same < 50; same++ {
		time.Sleep(time.Millisecond)
		if now := nstest.OpenDescriptors(t); now < least {
			least, same = now, 0
		}
	}
	return least
}

// TestUnreachable has the errors of the network come through as net's.
func TestUnreachable(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		for address, want := range map[string][]error{
			"192.0.2.1:80":       {syscall.ENETUNREACH},
			"[2001:db8::1]:80":   {syscall.ENETUNREACH, syscall.EADDRNOTAVAIL},
			"255.255.255.255:80": {syscall.ENETUNREACH, syscall.EACCES},
			"127.255.255.255:80": {syscall.ENETUNREACH, syscall.EACCES, syscall.EINVAL},
		} {
			for _, local := range []net.Addr{nil, &net.TCPAddr{}} {
				d := safedial.Dialer{LocalAddr: local, MaxRetries: -1}
				_, wantErr := (&net.Dialer{LocalAddr: local}).Dial("tcp", address)
				_, err := d.Dial("tcp", address)
				require.EqualError(t, err, wantErr.Error())
				known := false
				for _, one := range want {
					known = known || errors.Is(err, one)
				}
				assert.True(t, known, "%v", err)
			}
		}
	})
}

// TestNoHost has the kernel say that there is no way to a host.
func TestNoHost(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		ip(t, "route", "add", "unreachable", "192.0.2.0/24")
		ip(t, "route", "add", "prohibit", "198.51.100.0/24")
		for address, want := range map[string]error{"192.0.2.1:80": syscall.EHOSTUNREACH, "198.51.100.1:80": syscall.EACCES} {
			for _, local := range []net.Addr{nil, &net.TCPAddr{}} {
				_, wantErr := (&net.Dialer{LocalAddr: local}).Dial("tcp", address)
				d := safedial.Dialer{LocalAddr: local}
				_, err := d.Dial("tcp", address)
				require.EqualError(t, err, wantErr.Error())
				assert.ErrorIs(t, err, want)
			}
		}
	})
}

// TestLinkDown dials, and cancels, an address behind a link whose other end is down.
func TestLinkDown(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		ip(t, "link", "add", "near", "type", "veth", "peer", "name", "far")
		ip(t, "addr", "add", "192.0.2.1/24", "dev", "near")
		ip(t, "link", "set", "near", "up")
		descriptors, goroutines := nstest.OpenDescriptors(t), runtime.NumGoroutine()
		for _, local := range []net.Addr{nil, &net.TCPAddr{}} {
			d := safedial.Dialer{LocalAddr: local}
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(30*time.Millisecond, cancel)
			_, err := d.DialContext(ctx, "tcp", "192.0.2.2:80")
			assert.ErrorIs(t, err, context.Canceled)

			d.Timeout = 30 * time.Millisecond
			_, err = d.Dial("tcp", "192.0.2.2:80")
			var netErr net.Error
			require.ErrorAs(t, err, &netErr)
			assert.True(t, netErr.Timeout(), "%v", err)
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
	t.Parallel()
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
			nstest.Run(t, func(t *testing.T) {
				nstest.Serve(t, "tcp", "127.0.0.1:9000")
				nstest.SetLocalPorts(t, 40000, 40001)
				descriptors := settled(t, func() {
					conn, err := safedial.Dial("tcp", "127.0.0.1:9000")
					require.NoError(t, err)
					nstest.Reset(conn)
				})
				nstest.FailSyscall(t, c.number, unix.EPERM)
				connected := 0
				for _, address := range []string{"127.0.0.1:9000", "127.0.0.1:40000", "127.0.0.1:40001"} {
					for _, local := range []*net.TCPAddr{nil, {IP: net.IPv4(127, 0, 0, 1)}, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))} {
						// net itself waits for ever where getpeername(2) fails.
						d := safedial.Dialer{LocalAddr: local, Timeout: 50 * time.Millisecond}
						for _, dial := range dialsOf(&d) {
							conn, err := dial("tcp", address)
							if conn == nil {
								var op *net.OpError
								require.ErrorAs(t, err, &op, "%s from %v", address, local)
								continue
							}
							require.False(t, c.closed, "%s from %v: connected unseen", address, local)
							require.Equal(t, "127.0.0.1:9000", address)
							connected++
							nstest.Reset(conn)
						}
					}
				}
				t.Logf("%d connected", connected)
				nstest.AssertNothingLeft(t, descriptors, runtime.NumGoroutine())
			})
		})
	}
}
