package proof

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// A retryLog counts, for each network of a socket, the calls of the caller's hook, and
// keeps the retries.
type retryLog struct {
	mu      sync.Mutex
	calls   map[string]int
	retries map[string][]safedial.Retry
}

// of sets the hooks of a Dialer.
func (l *retryLog) of(d safedial.Dialer) *safedial.Dialer {
	l.calls, l.retries = map[string]int{}, map[string][]safedial.Retry{}
	d.Control = func(network, _ string, _ syscall.RawConn) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.calls[network]++
		return nil
	}
	d.OnRetry = func(_ context.Context, r safedial.Retry) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.retries[r.Network] = append(l.retries[r.Network], r)
	}
	return &d
}

// assertRetries asserts how often a dial was retried, and why. A Dialer counts the attempts
// of the whole dial: the hook retries each address twice, and after that the dial is
// repeated for all of them.
func (l *retryLog) assertRetries(t *testing.T, kind string, want int, cause error) {
	t.Helper()
	addresses := map[string]string{"tcp4": "127.0.0.1:40000", "tcp6": "[::1]:40000"}
	total := 0
	for network, retries := range l.retries {
		assert.LessOrEqual(t, len(retries), want, network)
		last := 0
		for _, r := range retries {
			assert.Greater(t, r.Attempt, last, "Attempt decreases")
			last = r.Attempt
			assert.Equal(t, safedial.Retry{Network: network, Address: addresses[network], Attempt: last, Err: cause}, r)
		}
		total += len(retries)
		if kind == "NetDialer" {
			assert.Equal(t, want, last, "attempts of the address")
		}
	}
	addressesTried := max(1, len(l.retries))
	inHook := min(want, 2)
	if kind == "NetDialer" {
		inHook = want
	}
	assert.Equal(t, addressesTried*inHook+want-inHook, total)
}

// TestSelfConnectRetries dials in a range of one port, where only the check can find
// the self-connection, and every attempt ends in one.
func TestSelfConnectRetries(t *testing.T) {
	isolated(t, func(t *testing.T) {
		nstest.Hosts(t, nstest.DualLocalhost)
		setLocalPorts(t, onlyPort, onlyPort)
		for maxRetries, want := range map[int]int{-1: 0, 0: 2, 1: 1, 5: 5} {
			for address, local := range map[string]net.Addr{"localhost:40000": nil, "127.0.0.1:40000": tcp("127.0.0.1", 0)} {
				for _, kind := range []string{"Dialer", "NetDialer"} {
					var l retryLog
					dial, ok := dialsOf(l.of(safedial.Dialer{LocalAddr: local, MaxRetries: maxRetries}))[kind]
					if !ok {
						continue
					}
					conn, err := dial("tcp", address)
					require.Nil(t, conn)
					require.ErrorIs(t, err, safedial.ErrSelfConnect)
					require.ErrorIs(t, err, syscall.ECONNREFUSED)
					nstest.RequireFree(t, onlyPort)
					if portable { // net tries the address that seems to connect, up to three times
						network := map[bool]string{true: "tcp6", false: "tcp4"}[local == nil]
						assert.Equal(t, map[string]int{network: socketsPerDial * (1 + want)}, l.calls)
						assert.Len(t, l.retries[network], want)
						continue
					}
					l.assertRetries(t, kind, want, safedial.ErrSelfConnect)
					for network := range l.retries {
						// Each attempt tries the ports on both sides of the destination's, and that one.
						assert.LessOrEqual(t, l.calls[network], 3*(1+want), network)
						assert.GreaterOrEqual(t, l.calls[network], 1+want, network)
					}
				}
			}
		}
	})
}

// TestSelfConnectError has the error that net.Dialer would give for a refusal,
// but for the cause.
func TestSelfConnectError(t *testing.T) {
	isolated(t, func(t *testing.T) {
		setLocalPorts(t, onlyPort, onlyPort)
		for want, c := range map[string]struct {
			local   net.Addr
			address string
		}{
			"dial tcp 127.0.0.1:40000":                  {nil, "127.0.0.1:40000"},
			"dial tcp :40000":                           {nil, ":40000"},
			"dial tcp 127.0.0.1:0->127.0.0.1:40000":     {tcp("127.0.0.1", 0), "127.0.0.1:40000"},
			"dial tcp 127.0.0.1:40000->127.0.0.1:40000": {tcp("127.0.0.1", onlyPort), "127.0.0.1:40000"},
		} {
			_, err := (&safedial.Dialer{LocalAddr: c.local}).Dial("tcp", c.address)
			require.EqualError(t, err, want+": connect: connection refused: socket connected to itself")
			op := nstest.OpError(t, err)
			assert.Equal(t, safedial.ErrSelfConnect, op.Err)
			assert.Equal(t, c.local, op.Source)
			assert.EqualValues(t, onlyPort, nstest.AddrPort(op.Addr).Port())
			assert.False(t, op.Timeout())
		}
	})
}

// TestFixedPortIsNotRetried: it would be the same port again.
func TestFixedPortIsNotRetried(t *testing.T) {
	isolated(t, func(t *testing.T) {
		for name, d := range map[string]safedial.Dialer{
			"LocalAddr IP:port": {LocalAddr: tcp("127.0.0.1", 9999)},
			"LocalAddr :port":   {LocalAddr: tcp("", 9999)},
			"bound by Control":  {Control: bindControl("127.0.0.1")},
		} {
			if portable && d.Control != nil {
				continue
			}
			d.OnRetry = notRetried(t)
			_, err := d.Dial("tcp", "127.0.0.1:9999")
			assert.ErrorIs(t, err, safedial.ErrSelfConnect, name)
		}
	})
}

// TestExhausted dials while every local port is taken.
func TestExhausted(t *testing.T) { isolated(t, func(t *testing.T) { dialExhausted(t, !portable) }) }

// TestExhaustedWithoutLateBind is on a kernel before 4.2, on which bind(2) chooses.
func TestExhaustedWithoutLateBind(t *testing.T) {
	isolated(t, func(t *testing.T) { dialExhausted(t, false) }, unix.IP_BIND_ADDRESS_NO_PORT)
}

func dialExhausted(t *testing.T, lateBind bool) {
	nstest.Serve(t, "tcp", "127.0.0.1:40000")
	takePorts(t, "127.0.0.1:40000", 40001, 40004)
	for maxRetries, want := range map[int]int{-1: 0, 0: 2, 5: 5} {
		for prefix, local := range map[string]net.Addr{"": nil, "127.0.0.1:0->": tcp("127.0.0.1", 0)} {
			var l retryLog
			_, err := l.of(safedial.Dialer{LocalAddr: local, MaxRetries: maxRetries}).Dial("tcp", "127.0.0.1:40000")
			calls := 1 // what the hook has set is still set
			if portable {
				calls = socketsPerDial * (1 + want)
			}
			if !lateBind && local != nil {
				assert.ErrorIs(t, err, syscall.EADDRINUSE)
				if !portable {
					assert.Equal(t, max(1, 1+want-2), l.calls["tcp4"], "MaxRetries %d", maxRetries)
				}
				continue
			}
			assert.EqualError(t, err, "dial tcp "+prefix+"127.0.0.1:40000: connect: cannot assign requested address")
			assert.NotErrorIs(t, err, safedial.ErrSelfConnect)
			cause := os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)
			assert.Equal(t, cause, nstest.OpError(t, err).Err, "as net.Dialer has it")
			if !portable {
				calls = max(1, 1+want-2) // the dial is repeated after the second retry
			}
			assert.Equal(t, calls, l.calls["tcp4"], "MaxRetries %d", maxRetries)
			l.assertRetries(t, "Dialer", want, cause)
		}
	}
}

// TestForeignLocalAddrIsNotRetried: EADDRNOTAVAIL of bind(2) is not spurious.
func TestForeignLocalAddrIsNotRetried(t *testing.T) {
	isolated(t, func(t *testing.T) {
		for _, port := range []int{0, 9999} {
			_, err := (&safedial.Dialer{LocalAddr: tcp("192.0.2.1", port), OnRetry: notRetried(t)}).Dial(
				"tcp",
				"127.0.0.1:40000",
			)
			assert.Equal(t, os.NewSyscallError("bind", syscall.EADDRNOTAVAIL), nstest.OpError(t, err).Err)
		}
	})
}

// requireNoRange returns an error if the socket has IP_LOCAL_PORT_RANGE.
func requireNoRange(fd int) error {
	if value, err := unix.GetsockoptInt(fd, unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE); err == nil && value != 0 {
		return fmt.Errorf("the hook finds IP_LOCAL_PORT_RANGE at %#x", value)
	}
	return nil
}

// TestFreedPortIsUsed frees a port between two attempts.
func TestFreedPortIsUsed(t *testing.T) {
	isolated(t, func(t *testing.T) {
		nstest.Hosts(t, nstest.DualLocalhost)
		nstest.Serve(t, "tcp", "127.0.0.1:40000")
		nstest.Serve(t, "tcp", "[::1]:40001")
		for name, c := range map[string]struct {
			d       safedial.Dialer
			address string
		}{
			"kernel's choice": {safedial.Dialer{}, "127.0.0.1:40000"},
			"LocalAddr IP:0":  {safedial.Dialer{LocalAddr: tcp("127.0.0.1", 0), MaxRetries: 5}, "127.0.0.1:40000"},
			"a hook":          {safedial.Dialer{Control: onSocket(requireNoRange)}, "127.0.0.1:40000"},
			// The leg that is refused comes first, and net returns its error.
			"second leg of two": {safedial.Dialer{FallbackDelay: -1}, "localhost:40000"},
		} {
			if portable && name == "second leg of two" {
				continue // net returns the error of the first leg alone
			}
			t.Run(name, func(t *testing.T) {
				setLocalPorts(t, 40010, 40010)
				blocker, err := net.Dial("tcp", "127.0.0.1:40000")
				require.NoError(t, err)
				freed := 0
				c.d.OnRetry = func(_ context.Context, r safedial.Retry) {
					assert.True(t, noPort(r.Err), "retried because of %v", r.Err)
					nstest.Reset(blocker)
					freed++
				}
				conn, err := c.d.Dial("tcp", c.address)
				require.NoError(t, err)
				assert.Equal(t, 1, freed)
				nstest.AssertReal(t, conn)
			})
		}
	})
}

// TestPauseIsBounded ends dials that have a thousand retries to go. If it is not a pause
// that ends, the error is the attempt's.
func TestPauseIsBounded(t *testing.T) {
	isolated(t, func(t *testing.T) {
		nstest.Serve(t, "tcp", "127.0.0.1:40000")
		takePorts(t, "127.0.0.1:40000", 40001, 40003)
		takeUDPPorts(t, 40001, 40003)
		const enough = 100 * time.Millisecond
		ended := func(what string, ctx context.Context, network, host string, d safedial.Dialer, want string) {
			d.MaxRetries = 1000
			start := time.Now()
			_, err := d.DialContext(ctx, network, host+":40000")
			assert.Less(t, time.Since(start), 20*enough, "%s: the bound started anew", what)
			if noPort(err) { // it ended while the system searched for a port
				assert.Greater(t, time.Since(start), enough/2, what)
				return
			}
			assert.EqualError(t, nstest.OpError(t, err).Err, want, what)
			assertEnded(t, err, want == "i/o timeout")
		}
		ended("Timeout", t.Context(), "tcp", "127.0.0.1", safedial.Dialer{Timeout: enough}, "i/o timeout")
		ended("Timeout of UDP", t.Context(), "udp", "127.0.0.1", safedial.Dialer{Timeout: enough}, "i/o timeout")
		ended(
			"from an address",
			t.Context(),
			"tcp",
			"127.0.0.1",
			safedial.Dialer{Timeout: enough, LocalAddr: tcp("127.0.0.1", 0)},
			"i/o timeout",
		)
		ended(
			"by name",
			t.Context(),
			"tcp",
			"localhost",
			safedial.Dialer{Timeout: 5 * enough},
			"i/o timeout",
		) // a look-up on a slow machine takes time, too
		ended("Deadline", t.Context(), "tcp", "127.0.0.1", safedial.Dialer{Deadline: time.Now().Add(enough)}, "i/o timeout")
		ended(
			"Cancel",
			t.Context(),
			"tcp",
			"127.0.0.1",
			safedial.Dialer{Cancel: closing(enough)}, //nolint:staticcheck // SA1019: net.Dialer has it too
			"operation was canceled",
		)
		for deadline, want := range map[bool]string{true: "i/o timeout", false: "operation was canceled"} {
			ctx, _ := contextEnding(t, enough, deadline)
			ended("context", ctx, "tcp", "127.0.0.1", safedial.Dialer{}, want)
		}
	})
}

// TestNoRetryAfterTheEnd: if the context ends in the caller's hook, or in OnRetry, no
// attempt and no look-up follows.
func TestNoRetryAfterTheEnd(t *testing.T) {
	isolated(t, func(t *testing.T) {
		nstest.Serve(t, "tcp", "127.0.0.1:40000")
		takePorts(t, "127.0.0.1:40000", 40001, 40003)
		takeUDPPorts(t, 40001, 40003)
		for _, local := range []net.Addr{nil, tcp("127.0.0.1", 0), udp("127.0.0.1", 0)} {
			for _, network := range []string{"tcp", "udp"} {
				if local != nil && local.Network() != network {
					continue
				}
				for _, inRetry := range []bool{false, true} {
					ctx, cancel := context.WithCancel(t.Context())
					retries := 0
					d := safedial.Dialer{
						LocalAddr:  local,
						MaxRetries: 50,
						OnRetry:    func(context.Context, safedial.Retry) { retries++; cancel() },
					}
					if !inRetry {
						d.Control = func(string, string, syscall.RawConn) error { cancel(); return nil }
					}
					_, err := d.DialContext(ctx, network, "localhost:40000")
					if inRetry {
						assert.Equal(t, 1, retries)
						assert.EqualError(t, nstest.OpError(t, err).Err, "operation was canceled")
					} else {
						assert.Zero(t, retries)
						assert.True(t, noPort(err), "%s from %v: %v", network, local, err)
					}
				}
			}
		}
	})
}
