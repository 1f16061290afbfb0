package proof

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptrace"
	"net/netip"
	"os"
	"reflect"
	"strings"
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

// TestPoolOfPorts has a hook bind the next port of a pool: like net, safedial calls
// it again if the port is taken for this destination.
func TestPoolOfPorts(t *testing.T) {
	skipPortable(t, "a retry follows net's own")
	nstest.Run(t, func(t *testing.T) {
		nstest.Serve(t, "tcp", "127.0.0.1:9000")
		for _, busy := range []int{0, 1, 2, 3} {
			for kind, build := range map[string]func(control func(string, string, syscall.RawConn) error) dialer{
				"net": func(control func(string, string, syscall.RawConn) error) dialer {
					return &net.Dialer{Control: control}
				},
				"Dialer": func(control func(string, string, syscall.RawConn) error) dialer {
					return &safedial.Dialer{Control: control}
				},
				"NetDialer": func(control func(string, string, syscall.RawConn) error) dialer {
					return (&safedial.Dialer{Control: control}).NetDialer()
				},
			} {
				next := uint16(9100)
				pool := func(network, _ string, c syscall.RawConn) error {
					return nstest.OnSocket(c, func(fd int) error {
						next++
						return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), nstest.BindTo(fd, network, "127.0.0.1", next))
					})
				}
				var held []net.Conn
				for range busy {
					conn, err := (&net.Dialer{Control: pool}).Dial("tcp", "127.0.0.1:9000")
					require.NoError(t, err)
					held = append(held, conn)
				}
				next = 9100
				conn, err := build(pool).DialContext(t.Context(), "tcp", "127.0.0.1:9000")
				if busy < 3 {
					require.NoError(t, err, "%s, %d busy", kind, busy)
					assert.Equal(t, 9100+busy+1, conn.LocalAddr().(*net.TCPAddr).Port, kind)
					nstest.Reset(conn)
				} else {
					assert.ErrorIs(t, err, syscall.EADDRNOTAVAIL, kind)
					assert.EqualValues(t, 9103, next, "%s: three sockets", kind)
				}
				for _, conn := range held {
					nstest.Reset(conn)
				}
			}
		}
	})
}

// TestNetDialerRetries: MaxRetries and OnRetry hold for its TCP dials too.
func TestNetDialerRetries(t *testing.T) {
	skipPortable(t, "a NetDialer does not retry")
	nstest.Run(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, onlyPort, onlyPort)
		for maxRetries, want := range map[int]int{-1: 0, 0: 2, 4: 4} {
			for _, local := range []net.Addr{nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}} {
				retries := 0
				d := safedial.Dialer{LocalAddr: local, MaxRetries: maxRetries, OnRetry: func(_ context.Context, r safedial.Retry) {
					retries++
					assert.Equal(t, safedial.Retry{Network: "tcp4", Address: "127.0.0.1:40000", Attempt: retries, Err: safedial.ErrSelfConnect}, r)
				}}
				_, err := d.NetDialer().Dial("tcp", "127.0.0.1:40000")
				assert.ErrorIs(t, err, safedial.ErrSelfConnect)
				assert.Equal(t, want, retries, "MaxRetries %d from %v", maxRetries, local)
				nstest.RequireFree(t, onlyPort)
			}
		}
	})
}

// TestUDPInCrowdedRange dials while one port is left beside the destination's.
func TestUDPInCrowdedRange(t *testing.T) {
	for name, options := range map[string][]uint32{"": nil, "WithoutPortRange": {unix.IP_LOCAL_PORT_RANGE}} {
		t.Run(name, func(t *testing.T) {
			nstest.Run(t, func(t *testing.T) {
				if options != nil {
					withoutOptions(t, options...)
				}
				nstest.SetLocalPorts(t, 40000, 40019)
				takeAllUDPPorts(t, ports(40001, 40009))
				takeAllUDPPorts(t, ports(40011, 40019))
				for _, local := range []net.Addr{nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.UDPAddr{}} {
					for kind, dial := range dialsOf(&safedial.Dialer{LocalAddr: local}) {
						failed := 0
						for range 200 {
							conn, err := dial("udp", "127.0.0.1:40010")
							if err != nil {
								failed++
								continue
							}
							assert.False(t, safedial.IsSelfConnect(conn), kind)
							conn.Close()
						}
						if kind == "Dialer" || local != nil || options != nil {
							assert.Zero(t, failed, "%s from %v", kind, local)
						}
					}
				}
			})
		})
	}
}

// TestCancelMayChange: the channel is read when a dial begins, and not again.
func TestCancelMayChange(t *testing.T) {
	l := nstest.Serve(t, "tcp", "127.0.0.1:0")
	var d safedial.Dialer
	for range 200 {
		d.Cancel = make(chan struct{})
		conn, err := d.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		nstest.Reset(conn)
	}
	closed := make(chan struct{})
	close(closed)
	d.Cancel = closed
	_, err := d.Dial("tcp", l.Addr().String())
	assert.ErrorIs(t, err, context.Canceled, "it is looked at first")
}

// TestNeighborsKeepTheirPorts has programs choose a free port, by listening on port 0
// and closing, and start a server there while 2,000 connections are dialed to a port
// outside of the local port range.
func TestNeighborsKeepTheirPorts(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		const servers, connections, rounds = 300, 2000, 3
		nstest.RaiseDescriptorLimit(t, 2*connections+servers+500)
		listen := nstest.LongBacklog(t, "127.0.0.1:9000", connections)
		for name, dial := range map[string]func(network, address string) (net.Conn, error){
			"net.Dialer": net.Dial, "Dialer": safedial.Dial, "NetDialer": new(safedial.Dialer).NetDialer().Dial,
		} {
			failed := 0
			for range rounds {
				failed += neighbors(t, dial, listen, servers, connections)
			}
			t.Logf("beside %s %d of %d servers cannot start", name, failed, rounds*servers)
			assert.Zero(t, failed, name)
		}
	})
}

// neighbors returns how many servers cannot start.
func neighbors(t *testing.T, dial func(network, address string) (net.Conn, error), listen func() string, servers, connections int) (failed int) {
	t.Helper()
	chosen := map[string]bool{}
	for len(chosen) < servers {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		chosen[l.Addr().String()] = true
		l.Close()
	}
	address := listen()
	for range connections {
		conn, err := dial("tcp", address)
		require.NoError(t, err)
		defer nstest.Reset(conn)
	}
	for address := range chosen {
		l, err := net.Listen("tcp", address)
		if err != nil {
			failed++
			continue
		}
		defer l.Close()
	}
	return failed
}

// TestUDPWaitsForAPort has every port taken, and one freed 50 ms later.
func TestUDPWaitsForAPort(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, 40000, 40003)
		from := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}
		for name, c := range map[string]struct {
			local net.Addr
			dial  func(d *safedial.Dialer) (net.Conn, error)
			errno error
		}{
			"Dialer":              {nil, func(d *safedial.Dialer) (net.Conn, error) { return d.Dial("udp", "127.0.0.1:9000") }, os.NewSyscallError("connect", syscall.EAGAIN)},
			"Dialer from IP:0":    {from, func(d *safedial.Dialer) (net.Conn, error) { return d.Dial("udp", "127.0.0.1:9000") }, os.NewSyscallError("bind", syscall.EADDRINUSE)},
			"NetDialer from IP:0": {from, func(d *safedial.Dialer) (net.Conn, error) { return d.NetDialer().Dial("udp", "127.0.0.1:9000") }, os.NewSyscallError("bind", syscall.EADDRINUSE)},
			"Dialer, inside":      {nil, func(d *safedial.Dialer) (net.Conn, error) { return d.Dial("udp", "127.0.0.1:40001") }, os.NewSyscallError("connect", syscall.EAGAIN)},
		} {
			if portable && strings.HasPrefix(name, "NetDialer") {
				continue // it does not retry
			}
			t.Run(name, func(t *testing.T) {
				taken := takeAllUDPPorts(t, ports(40000, 40003))
				retries := 0
				d := safedial.Dialer{LocalAddr: c.local, MaxRetries: -1}
				_, err := c.dial(&d)
				assert.Equal(t, c.errno, nstest.OpError(t, err).Err)

				d.MaxRetries = 20
				d.OnRetry = func(_ context.Context, r safedial.Retry) {
					retries++
					assert.Equal(t, retries, r.Attempt)
					assert.Equal(t, "udp4", r.Network)
					assert.Equal(t, c.errno, r.Err)
				}
				timer := time.AfterFunc(50*time.Millisecond, func() { taken[0].Close() })
				defer timer.Stop()
				conn, err := c.dial(&d)
				require.NoError(t, err)
				assert.Positive(t, retries)
				conn.Close()
				for _, packets := range taken {
					packets.Close()
				}
			})
		}
	})
}

// TestUDPOtherRangeIsNoRetry has free ports on one side of the destination's alone.
func TestUDPOtherRangeIsNoRetry(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		requirePortRange(t)
		nstest.SetLocalPorts(t, 40000, 40004)
		for _, isReserved := range []bool{false, true} {
			for _, side := range []safedial.PortRange{ports(40000, 40001), ports(40003, 40004)} {
				var taken []net.PacketConn
				if isReserved {
					nstest.SetReservedPorts(t, side.String())
				} else {
					taken = takeAllUDPPorts(t, side)
				}
				for _, local := range []net.Addr{nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}} {
					d := safedial.Dialer{LocalAddr: local, MaxRetries: -1, OnRetry: func(_ context.Context, r safedial.Retry) { t.Error(r) }}
					for range 200 {
						conn, err := d.Dial("udp", "127.0.0.1:40002")
						require.NoError(t, err, "from %v, %s, reserved %t", local, side, isReserved)
						conn.Close()
					}
				}
				for _, packets := range taken {
					packets.Close()
				}
				nstest.SetReservedPorts(t, "")
			}
		}
	})
}

// TestLocalPortsSayWhy: a dial that cannot get a port fails immediately, and says what
// leaves none.
func TestLocalPortsSayWhy(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		requirePortRange(t)
		nstest.SetReservedPorts(t, "50000-50099")
		nstest.SetLocalPorts(t, 32768, 60999)
		limit := func(low, high uint16) func(string, string, syscall.RawConn) error {
			return func(_, _ string, c syscall.RawConn) error {
				return nstest.OnSocket(c, func(fd int) error { return nstest.LimitPorts(fd, low, high) })
			}
		}
		for want, d := range map[string]safedial.Dialer{
			"local ports 50000-50099: all reserved by ip_local_reserved_ports":                                                   {LocalPorts: ports(50000, 50099)},
			"local ports 40000-40010: none in the range 41000-41010 that the caller's hook has set":                              {LocalPorts: ports(40000, 40010), Control: limit(41000, 41010)},
			"avoid ports [40000 40001]: no port other than [9000 40000 40001] in the range 40000-40001":                          {AvoidPorts: []uint16{40001, 40000}, Control: limit(40000, 40001)},
			"local ports 40000-40001, avoid ports [40000 40001]: no port other than [9000 40000 40001] in the range 40000-40001": {LocalPorts: ports(40000, 40001), AvoidPorts: []uint16{40000, 40001}},
		} {
			d.MaxRetries = 1000
			d.OnRetry = func(_ context.Context, r safedial.Retry) { t.Errorf("retried: %v", r.Err) }
			for _, network := range []string{"tcp", "udp"} {
				for kind, dial := range dialsOf(&d) {
					_, err := dial(network, "127.0.0.1:9000")
					assert.EqualError(t, err, "dial "+network+" 127.0.0.1:9000: "+want, kind)
				}
			}
		}
	})
}

// TestNoTypesOfOurOwn: errors have no type of safedial's but ErrSelfConnect's, not
// even those that a trace gets.
func TestNoTypesOfOurOwn(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.Serve(t, "tcp", "127.0.0.1:40000")
		takeAllPorts(t, "127.0.0.1:40000", ports(40001, 40003))
		check := func(err error) {
			require.Error(t, err)
			for ; err != nil; err = errors.Unwrap(err) {
				if err != safedial.ErrSelfConnect {
					kind := reflect.TypeOf(err)
					if kind.Kind() == reflect.Pointer {
						kind = kind.Elem()
					}
					assert.False(t, strings.Contains(kind.PkgPath(), "safedial"), "%T", err)
				}
			}
		}
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{ConnectDone: func(_, _ string, err error) { check(err) }})
		for _, local := range []net.Addr{nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40001}} {
			for _, address := range []string{"127.0.0.1:40000", "127.0.0.1:40001"} {
				d := safedial.Dialer{LocalAddr: local}
				_, err := d.DialContext(ctx, "tcp", address)
				check(err)
				if op := nstest.OpError(t, err); !errors.Is(err, safedial.ErrSelfConnect) {
					assert.IsType(t, (*os.SyscallError)(nil), op.Err)
					assert.IsType(t, syscall.Errno(0), errors.Unwrap(op.Err), "net's own chain")
				}
				_, err = d.NetDialer().DialContext(ctx, "tcp", address)
				check(err)
				if op := nstest.OpError(t, err); !errors.Is(err, safedial.ErrSelfConnect) {
					assert.IsType(t, (*os.SyscallError)(nil), op.Err)
				}
			}
		}
	})
}

// TestLosingLegIsClosed: of two addresses that both accept, the one that loses is
// closed as by net, and not reset.
func TestLosingLegIsClosed(t *testing.T) {
	skipPortable(t, "a connection that nothing has checked is reset")
	nstest.Run(t, func(t *testing.T) {
		resolver := nstest.Zone{"both.test": {netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")}}.Resolver(t)
		l, err := net.Listen("tcp", ":40000")
		require.NoError(t, err)
		defer l.Close()
		ends := make(chan error, 1000)
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					_, err := conn.Read(make([]byte, 1))
					conn.Close()
					ends <- err
				}()
			}
		}()
		const dials = 200
		for range dials {
			d := safedial.Dialer{Resolver: resolver, LocalAddr: &net.TCPAddr{}, FallbackDelay: 1}
			conn, err := d.Dial("tcp", "both.test:40000")
			require.NoError(t, err)
			conn.Close()
		}
		for range dials {
			assert.Equal(t, io.EOF, <-ends)
		}
		for more := true; more; {
			select {
			case err := <-ends:
				assert.Equal(t, io.EOF, err, "of the leg that lost")
			case <-time.After(200 * time.Millisecond):
				more = false
			}
		}
	})
}

// TestLocalAddrOfOneFamily dials a name of two.
func TestLocalAddrOfOneFamily(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		resolver := nstest.Zone{"both.test": {netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")}}.Resolver(t)
		for _, local := range []string{"127.0.0.1", "::1"} {
			plain := net.Dialer{Resolver: resolver, LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}
			d := safedial.Dialer{Resolver: resolver, LocalAddr: plain.LocalAddr}
			_, want := plain.Dial("tcp", "both.test:9")
			_, err := d.Dial("tcp", "both.test:9")
			require.ErrorIs(t, err, syscall.ECONNREFUSED)
			assert.Equal(t, chain(want), chain(err))
			_, err = d.NetDialer().Dial(map[string]string{"127.0.0.1": "tcp4", "::1": "tcp6"}[local], "both.test:9")
			assert.ErrorIs(t, err, syscall.ECONNREFUSED, "NetDialer, told the family")

			l := nstest.Serve(t, "tcp", net.JoinHostPort(local, "40000"))
			for kind, dial := range dialsOf(&d) {
				conn, err := dial("tcp", "both.test:40000")
				require.NoError(t, err, kind)
				nstest.AssertReal(t, conn, kind)
			}
			l.Close()
		}
	})
}

// TestDialTCPTriesOneAddress: "::" does not fall back to IPv4.
func TestDialTCPTriesOneAddress(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.Serve(t, "tcp4", "127.0.0.1:40000")
		_, err := new(safedial.Dialer).DialTCP(t.Context(), "tcp", netip.AddrPort{}, netip.MustParseAddrPort("[::]:40000"))
		assert.ErrorIs(t, err, syscall.ECONNREFUSED)
		assert.EqualError(t, err, "dial tcp [::]:40000: connect: connection refused")
		conn, err := safedial.Dial("tcp", "[::]:40000")
		require.NoError(t, err, "Dial falls back, as net's")
		nstest.Reset(conn)
	})
}

// TestOwnPortBesideServer dials from the destination's own port while a server has it
// too, with SO_REUSEPORT: the kernel finds the dialing socket before the listener.
func TestOwnPortBesideServer(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		reuse := func(_, _ string, c syscall.RawConn) error {
			return nstest.OnSocket(c, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		}
		lc := net.ListenConfig{Control: reuse}
		l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:40000")
		require.NoError(t, err)
		defer l.Close()
		d := safedial.Dialer{Control: reuse, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}}
		_, err = d.Dial("tcp", "127.0.0.1:40000")
		assert.ErrorIs(t, err, safedial.ErrSelfConnect)
		conn, err := safedial.Dial("tcp", "127.0.0.1:40000")
		require.NoError(t, err, "from another port")
		nstest.Reset(conn)
	})
}

// TestOptionsAfterUndo: a connection that needed a retry has the options that the
// caller's hook sets, as a first dial's.
func TestOptionsAfterUndo(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		withoutOptions(t, unix.IP_LOCAL_PORT_RANGE) // so that the kernel chooses the port
		nstest.SetLocalPorts(t, 40000, 40000)
		var once sync.Once
		var mu sync.Mutex
		undone := 0
		options := [][3]int{
			{unix.SOL_TCP, unix.TCP_MAXSEG, 1000}, {unix.SOL_TCP, unix.TCP_WINDOW_CLAMP, 5000}, {unix.SOL_TCP, unix.TCP_SYNCNT, 3},
			{unix.SOL_TCP, unix.TCP_USER_TIMEOUT, 4000}, {unix.SOL_TCP, unix.TCP_LINGER2, 7}, {unix.SOL_TCP, unix.TCP_NOTSENT_LOWAT, 9000},
			{unix.SOL_TCP, unix.TCP_DEFER_ACCEPT, 1}, {unix.SOL_IP, unix.IP_TOS, 8}, {unix.SOL_SOCKET, unix.SO_PRIORITY, 3},
			{unix.SOL_SOCKET, unix.SO_OOBINLINE, 1}, {unix.SOL_IP, unix.IP_TTL, 33}, {unix.SOL_IP, unix.IP_RECVERR, 1},
		}
		dial := func(d safedial.Dialer) map[[3]int]int {
			d.Control = func(_, _ string, c syscall.RawConn) error {
				return nstest.OnSocket(c, func(fd int) error {
					for _, o := range options {
						if err := unix.SetsockoptInt(fd, o[0], o[1], o[2]); err != nil {
							return fmt.Errorf("%v: %w", o, err)
						}
					}
					return nil
				})
			}
			conn, err := d.Dial("tcp", "127.0.0.1:40000")
			require.NoError(t, err)
			defer nstest.Reset(conn)
			got := map[[3]int]int{}
			require.NoError(t, nstest.OnSocket(nstest.RawConn(t, conn), func(fd int) error {
				for _, o := range options {
					value, err := unix.GetsockoptInt(fd, o[0], o[1])
					if err != nil {
						return err
					}
					got[o] = value
				}
				errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
				assert.Zero(t, errno)
				fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLOUT}}
				_, pollErr := unix.Poll(fds, 0)
				assert.NoError(t, pollErr)
				assert.Zero(t, fds[0].Revents&(unix.POLLERR|unix.POLLHUP), "poll state")
				return err
			}))
			return got
		}
		after := dial(safedial.Dialer{OnRetry: func(_ context.Context, r safedial.Retry) {
			mu.Lock()
			defer mu.Unlock()
			undone++
			assert.ErrorIs(t, r.Err, safedial.ErrSelfConnect)
			once.Do(func() {
				nstest.SetLocalPorts(t, 40000, 40001)
				nstest.Serve(t, "tcp", "127.0.0.1:40000")
			})
		}})
		require.Positive(t, undone)
		first := dial(safedial.Dialer{})
		assert.Equal(t, first, after)
	})
}
