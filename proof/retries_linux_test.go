package proof

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/safedial/safedial"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

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
			"Cancel":           {safedial.Dialer{Cancel: closing(enough)}, never, false},
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

// TestOnePortServesEachDestination: a port that bind(2) does not take serves one
// connection to each destination.
func TestOnePortServesEachDestination(t *testing.T) {
	skipPortable(t, "net binds a port to LocalAddr")
	nstest.Run(t, func(t *testing.T) {
		const ports = 20
		nstest.SetLocalPorts(t, 40001, 40000+ports)
		here := netip.MustParseAddr("127.0.0.1")
		for name, dial := range map[string]func(remote netip.AddrPort) (net.Conn, error){
			"LocalAddr IP:0": func(remote netip.AddrPort) (net.Conn, error) {
				d := safedial.Dialer{LocalAddr: &net.TCPAddr{IP: here.AsSlice()}}
				return d.Dial("tcp", remote.String())
			},
			"NetDialer with LocalAddr IP:0": func(remote netip.AddrPort) (net.Conn, error) {
				d := safedial.Dialer{LocalAddr: &net.TCPAddr{IP: here.AsSlice()}}
				return d.NetDialer().Dial("tcp", remote.String())
			},
			"DialTCP from nowhere": func(remote netip.AddrPort) (net.Conn, error) {
				return nstest.NetConn(new(safedial.Dialer).DialTCP(t.Context(), "tcp", netip.AddrPort{}, remote))
			},
			"DialTCP from nowhere and a port": func(remote netip.AddrPort) (net.Conn, error) {
				return nstest.NetConn(new(safedial.Dialer).DialTCP(t.Context(), "tcp", netip.AddrPortFrom(netip.Addr{}, 9999), remote))
			},
			"DialTCP from an address": func(remote netip.AddrPort) (net.Conn, error) {
				return nstest.NetConn(new(safedial.Dialer).DialTCP(t.Context(), "tcp", netip.AddrPortFrom(here, 0), remote))
			},
		} {
			t.Run(name, func(t *testing.T) {
				for _, port := range []uint16{9000, 9001} {
					remote := netip.AddrPortFrom(here, port)
					nstest.Serve(t, "tcp", remote.String())
					for i := range ports {
						conn, err := dial(remote)
						require.NoError(t, err, "connection %d to %s", i, remote)
						defer nstest.Reset(conn)
					}
					_, err := dial(remote)
					require.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
				}
			})
		}
	})
}

// TestCallersPortRange has the caller's hook narrow the choice; the guard narrows
// it further, and never widens it.
func TestCallersPortRange(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		requirePortRange(t)
		nstest.SetLocalPorts(t, 40000, 40099)
		for _, c := range []struct {
			set, want, outside safedial.PortRange // want: to 40050; outside: to 9000
		}{
			{ports(40050, 40052), ports(40050, 40052), ports(40050, 40052)},
			{ports(40049, 40050), ports(40049, 40049), ports(40049, 40050)},
			{ports(40050, 40051), ports(40051, 40051), ports(40050, 40051)},
			{ports(0, 40010), ports(40000, 40010), ports(40000, 40010)},
			{ports(40090, 0), ports(40090, 40099), ports(40090, 40099)},
		} {
			for _, local := range []net.Addr{nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}} {
				for _, port := range []uint16{40050, 9000} {
					want := c.want
					if port == 9000 {
						want = c.outside
					}
					d := safedial.Dialer{LocalAddr: local, Control: func(_, _ string, conn syscall.RawConn) error {
						return nstest.OnSocket(conn, func(fd int) error { return nstest.LimitPorts(fd, c.set.Low, c.set.High) })
					}}
					l := nstest.Serve(t, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
					for range 20 {
						conn, err := d.Dial("tcp", l.Addr().String())
						require.NoError(t, err, "%v", c)
						got := uint16(conn.LocalAddr().(*net.TCPAddr).Port)
						assert.True(t, want.Contains(got), "%v of the caller's, from %v to %d: %d", c.set, local, port, got)
						nstest.Reset(conn)
					}
					l.Close()
				}
			}
		}
	})
}

// TestLeavesNothing dials in all ways to fail, and counts what is left.
func TestLeavesNothing(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.Serve(t, "tcp", "127.0.0.1:40000")
		nstest.FullBacklog(t, 9000)
		nstest.SetLocalPorts(t, 40001, 40002)
		dials := map[string]func() error{
			"accepted": func() error {
				conn, err := safedial.Dial("tcp", "127.0.0.1:40000")
				if err == nil {
					nstest.Reset(conn)
				}
				return err
			},
			"refused": func() error { _, err := safedial.Dial("tcp", "127.0.0.1:9"); return err },
			"self":    func() error { _, err := safedial.Dial("tcp", "127.0.0.1:40001"); return err },
			"self by force": func() error {
				_, err := safedial.DialTCP("tcp", &net.TCPAddr{Port: 40001}, &net.TCPAddr{Port: 40001})
				return err
			},
			"by name": func() error { _, err := safedial.Dial("tcp", "localhost:40001"); return err },
			"silent": func() error {
				_, err := safedial.DialTimeout("tcp", "127.0.0.1:9000", 10*time.Millisecond)
				return err
			},
			"canceled": func() error {
				ctx, cancel := context.WithCancel(context.Background())
				time.AfterFunc(5*time.Millisecond, cancel)
				_, err := safedial.DialContext(ctx, "tcp", "127.0.0.1:9000")
				return err
			},
			"hook refuses": func() error {
				d := safedial.Dialer{Control: func(string, string, syscall.RawConn) error { return errors.New("no") }}
				_, err := d.Dial("tcp", "127.0.0.1:40000")
				return err
			},
			"foreign": func() error {
				d := safedial.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("192.0.2.1")}}
				_, err := d.Dial("tcp", "127.0.0.1:40000")
				return err
			},
		}
		for _, dial := range dials { // what the first dial of a kind opens for good
			_ = dial()
		}
		descriptors, goroutines := nstest.OpenDescriptors(t), runtime.NumGoroutine()
		var group sync.WaitGroup
		for name, dial := range dials {
			group.Go(func() {
				for range 20 {
					if err := dial(); name != "accepted" {
						assert.Error(t, err, name)
					}
				}
			})
		}
		group.Wait()
		nstest.AssertNothingLeft(t, descriptors, goroutines)
	})
}

// TestUnverifiedIsNotReturned: where the kernel does not tell the ends of a
// socket, the dial fails, for the socket may be connected to itself.
func TestUnverifiedIsNotReturned(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.Serve(t, "tcp", "127.0.0.1:40000")
		nstest.FailSyscall(t, unix.SYS_GETSOCKNAME, unix.EPERM)
		for _, local := range []net.Addr{nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}} {
			d := safedial.Dialer{LocalAddr: local, OnRetry: func(_ context.Context, r safedial.Retry) { t.Errorf("from %v: retried: %v", local, r.Err) }}
			conn, err := d.Dial("tcp", "127.0.0.1:40000")
			assert.Nil(t, conn, "from %v", local)
			assert.ErrorIs(t, err, unix.EPERM, "from %v", local)
			var op *net.OpError
			assert.ErrorAs(t, err, &op, "from %v", local)
		}
	})
}
