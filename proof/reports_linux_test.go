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

// TestCancelMayChange: the channel is read when a dial begins, and not again.
func TestCancelMayChange(t *testing.T) {
	l := nstest.Serve(t, "tcp", "127.0.0.1:0")
	var d safedial.Dialer
	for range 200 {
		d.Cancel = make(chan struct{}) //lint:ignore SA1019 net.Dialer has it too
		conn, err := d.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		nstest.Reset(conn)
	}
	closed := make(chan struct{})
	close(closed)
	d.Cancel = closed //lint:ignore SA1019 net.Dialer has it too
	_, err := d.Dial("tcp", l.Addr().String())
	assert.ErrorIs(t, err, context.Canceled, "it is looked at first")
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
				if kind := reflect.TypeOf(err); kind != reflect.TypeOf(safedial.ErrSelfConnect) {
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

// callersOptions are options that a hook sets: level, option, value.
var callersOptions = [][3]int{
	{unix.SOL_TCP, unix.TCP_MAXSEG, 1000},
	{unix.SOL_TCP, unix.TCP_WINDOW_CLAMP, 5000},
	{unix.SOL_TCP, unix.TCP_SYNCNT, 3},
	{unix.SOL_TCP, unix.TCP_USER_TIMEOUT, 4000},
	{unix.SOL_TCP, unix.TCP_LINGER2, 7},
	{unix.SOL_TCP, unix.TCP_NOTSENT_LOWAT, 9000},
	{unix.SOL_TCP, unix.TCP_DEFER_ACCEPT, 1},
	{unix.SOL_IP, unix.IP_TOS, 8},
	{unix.SOL_SOCKET, unix.SO_PRIORITY, 3},
	{unix.SOL_SOCKET, unix.SO_OOBINLINE, 1},
	{unix.SOL_IP, unix.IP_TTL, 33},
	{unix.SOL_IP, unix.IP_RECVERR, 1},
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
		dial := func(d safedial.Dialer) map[[3]int]int {
			d.Control = func(_, _ string, c syscall.RawConn) error {
				return nstest.OnSocket(c, func(fd int) error {
					for _, o := range callersOptions {
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
				for _, o := range callersOptions {
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
