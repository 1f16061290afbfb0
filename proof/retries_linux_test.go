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

	"github.com/safedial/safedial"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial/internal/nstest"
)

// TestSelfConnectRetries dials in a range of one port, where only the look can
// find the self-connection, and every attempt ends in one.
func TestSelfConnectRetries(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.Hosts(t, nstest.DualLocalhost)
		nstest.SetLocalPorts(t, onlyPort, onlyPort)
		for maxRetries, want := range map[int]int{-1: 0, 0: 2, 1: 1, 5: 5} {
			t.Run(fmt.Sprint(maxRetries), func(t *testing.T) {
				var mu sync.Mutex
				retries, calls := map[string][]safedial.Retry{}, map[string]int{}
				d := safedial.Dialer{
					MaxRetries: maxRetries,
					OnRetry: func(_ context.Context, r safedial.Retry) {
						mu.Lock()
						defer mu.Unlock()
						retries[r.Network] = append(retries[r.Network], r)
					},
					Control: func(network, _ string, _ syscall.RawConn) error {
						mu.Lock()
						defer mu.Unlock()
						calls[network]++
						return nil
					},
				}
				conn, err := d.Dial("tcp", "localhost:40000")
				require.Nil(t, conn)
				require.ErrorIs(t, err, safedial.ErrSelfConnect)
				require.ErrorIs(t, err, syscall.ECONNREFUSED)
				if portable { // net tries the address that seems to connect, up to three times
					assert.Equal(t, map[string]int{"tcp6": 3 * (1 + want)}, calls)
					assert.Len(t, retries["tcp6"], want)
					return
				}
				assert.Equal(t, map[string]int{"tcp4": 1 + want, "tcp6": 1 + want}, calls, "the hook is called once for each attempt at an address")
				for network, address := range map[string]string{"tcp4": "127.0.0.1:40000", "tcp6": "[::1]:40000"} {
					assert.Len(t, retries[network], want, network)
					for i, r := range retries[network] {
						assert.Equal(t, safedial.Retry{Network: network, Address: address, Attempt: i + 1, Err: safedial.ErrSelfConnect}, r)
					}
				}
				nstest.RequireFree(t, onlyPort)
			})
		}
	})
}

// TestSelfConnectError has the error that net.Dialer would give for a refusal,
// but for the cause.
func TestSelfConnectError(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, onlyPort, onlyPort)
		here := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1).To4(), Port: onlyPort}
		for name, c := range map[string]struct {
			d       safedial.Dialer
			address string
			want    string
		}{
			"kernel's choice":    {safedial.Dialer{}, "127.0.0.1:40000", "dial tcp 127.0.0.1:40000"},
			"wildcard":           {safedial.Dialer{}, ":40000", "dial tcp :40000"},
			"LocalAddr IP:0":     {safedial.Dialer{LocalAddr: &net.TCPAddr{IP: here.IP}}, "127.0.0.1:40000", "dial tcp 127.0.0.1:0->127.0.0.1:40000"},
			"LocalAddr own port": {safedial.Dialer{LocalAddr: here}, "127.0.0.1:40000", "dial tcp 127.0.0.1:40000->127.0.0.1:40000"},
		} {
			t.Run(name, func(t *testing.T) {
				_, err := c.d.Dial("tcp", c.address)
				require.EqualError(t, err, c.want+": connect: connection refused: socket connected to itself")
				var op *net.OpError
				require.ErrorAs(t, err, &op)
				assert.Equal(t, safedial.ErrSelfConnect, op.Err)
				assert.Equal(t, c.d.LocalAddr, op.Source)
				assert.Equal(t, onlyPort, op.Addr.(*net.TCPAddr).Port)
				assert.False(t, op.Timeout())
			})
		}
	})
}

// TestFixedPortIsNotRetried: it would be the same port again.
func TestFixedPortIsNotRetried(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		for _, local := range localCases {
			if !local.fixed || portable && local.name == "bound by Control" {
				continue
			}
			var d safedial.Dialer
			local.set(&d, "127.0.0.1", onlyPort)
			d.OnRetry = func(_ context.Context, r safedial.Retry) { t.Errorf("%s: retried: %v", local.name, r.Err) }
			_, err := d.Dial("tcp", "127.0.0.1:40000")
			assert.ErrorIs(t, err, safedial.ErrSelfConnect, local.name)
		}
	})
}

// TestExhausted dials while every local port is taken.
func TestExhausted(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.Serve(t, "tcp", "127.0.0.1:40000")
		takeAllPorts(t, "127.0.0.1:40000", ports(40001, 40004))
		for maxRetries, want := range map[int]int{-1: 0, 0: 2, 4: 4} {
			var retries, sockets int
			d := safedial.Dialer{
				MaxRetries: maxRetries,
				Control:    func(string, string, syscall.RawConn) error { sockets++; return nil },
				OnRetry: func(_ context.Context, r safedial.Retry) {
					retries++
					assert.Equal(t, retries, r.Attempt)
					assert.ErrorIs(t, r.Err, syscall.EADDRNOTAVAIL)
					assert.Equal(t, os.NewSyscallError("connect", syscall.EADDRNOTAVAIL), r.Err)
				},
			}
			_, err := d.Dial("tcp", "127.0.0.1:40000")
			assert.EqualError(t, err, "dial tcp 127.0.0.1:40000: connect: cannot assign requested address")
			assert.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
			assert.NotErrorIs(t, err, safedial.ErrSelfConnect)
			assert.Equal(t, os.NewSyscallError("connect", syscall.EADDRNOTAVAIL), nstest.OpError(t, err).Err, "as net.Dialer has it")
			assert.Equal(t, want, retries, "MaxRetries %d", maxRetries)
			assert.Equal(t, socketsPerDial*(1+want), sockets, "MaxRetries %d", maxRetries)
		}
	})
}

// TestExhaustedFromAddress is the same with a LocalAddr.
func TestExhaustedFromAddress(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.Serve(t, "tcp", "127.0.0.1:40000")
		takeAllPorts(t, "127.0.0.1:40000", ports(40001, 40004))
		for maxRetries, want := range map[int]int{-1: 1, 0: 3, 5: 6} {
			sockets := 0
			d := safedial.Dialer{
				LocalAddr:  &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)},
				MaxRetries: maxRetries,
				Control:    func(string, string, syscall.RawConn) error { sockets++; return nil },
			}
			_, err := d.Dial("tcp", "127.0.0.1:40000")
			assert.True(t, noPort(err), "%v", err)
			assert.Equal(t, want, sockets, "MaxRetries %d", maxRetries)
		}
	})
}

// TestForeignLocalAddrIsNotRetried: EADDRNOTAVAIL of bind(2) is not spurious.
func TestForeignLocalAddrIsNotRetried(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		for _, port := range []int{0, 9999} {
			d := safedial.Dialer{
				LocalAddr: &net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: port},
				OnRetry:   func(_ context.Context, r safedial.Retry) { t.Errorf("retried: %v", r.Err) },
			}
			_, err := d.Dial("tcp", "127.0.0.1:40000")
			var call *os.SyscallError
			require.ErrorAs(t, err, &call)
			assert.Equal(t, "bind", call.Syscall)
			assert.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
		}
	})
}

// TestFreedPortIsUsed frees a port between two attempts.
func TestFreedPortIsUsed(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.Hosts(t, nstest.DualLocalhost)
		nstest.Serve(t, "tcp", "127.0.0.1:40000")
		nstest.Serve(t, "tcp", "[::1]:40001")
		for name, c := range map[string]struct {
			d       safedial.Dialer
			address string
		}{
			"kernel's choice": {safedial.Dialer{}, "127.0.0.1:40000"},
			"LocalAddr IP:0":  {safedial.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, MaxRetries: 5}, "127.0.0.1:40000"},
			// The leg that is refused comes first, and net returns its error.
			"second leg of two": {safedial.Dialer{FallbackDelay: -1}, "localhost:40000"},
		} {
			if portable && name == "second leg of two" {
				continue // net returns the error of the first leg alone
			}
			t.Run(name, func(t *testing.T) {
				nstest.SetLocalPorts(t, 40010, 40010)
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

// TestPauseIsBounded ends a dial that has a thousand retries to go.
func TestPauseIsBounded(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.Serve(t, "tcp", "127.0.0.1:40000")
		takeAllPorts(t, "127.0.0.1:40000", ports(40001, 40003))
		const enough = 100 * time.Millisecond
		done := func() context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), enough)
			t.Cleanup(cancel)
			return ctx
		}
		canceled := func() context.Context {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(enough, cancel)
			return ctx
		}
		never := t.Context
		for name, c := range map[string]struct {
			d       safedial.Dialer
			ctx     func() context.Context
			timeout bool
		}{
			"Timeout":          {safedial.Dialer{Timeout: enough}, never, true},
			"Deadline":         {safedial.Dialer{Deadline: time.Now().Add(enough)}, never, true},
			"context deadline": {safedial.Dialer{}, done, true},
			"context canceled": {safedial.Dialer{}, canceled, false},
			"Cancel":           {safedial.Dialer{Cancel: closing(enough)}, never, false}, //lint:ignore SA1019 net.Dialer has it too
			"from an address":  {safedial.Dialer{Timeout: enough, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}, never, true},
		} {
			t.Run(name, func(t *testing.T) {
				c.d.MaxRetries = 1000
				start := time.Now()
				_, err := c.d.DialContext(c.ctx(), "tcp", "127.0.0.1:40000")
				var netErr net.Error
				require.ErrorAs(t, err, &netErr)
				assert.Equal(t, c.timeout, netErr.Timeout(), "%v", err)
				if c.timeout {
					assert.ErrorIs(t, err, context.DeadlineExceeded)
				} else {
					assert.ErrorIs(t, err, context.Canceled)
				}
				assert.NotErrorIs(t, err, syscall.EADDRNOTAVAIL)
				assert.Less(t, time.Since(start), 20*enough, "the bound started anew")
			})
		}
	})
}

// TestCancelBetweenAttempts cancels in OnRetry: no attempt follows.
func TestCancelBetweenAttempts(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, onlyPort, onlyPort)
		ctx, cancel := context.WithCancel(t.Context())
		sockets := 0
		d := safedial.Dialer{
			MaxRetries: 100,
			OnRetry:    func(context.Context, safedial.Retry) { cancel() },
			Control:    func(string, string, syscall.RawConn) error { sockets++; return nil },
		}
		_, err := d.DialContext(ctx, "tcp", "127.0.0.1:40000")
		assert.ErrorIs(t, err, context.Canceled)
		assert.EqualError(t, err, "dial tcp 127.0.0.1:40000: operation was canceled")
		assert.Equal(t, socketsPerDial, sockets)
	})
}
