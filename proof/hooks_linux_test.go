package proof

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
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

// TestHooksOfAllKinds has hooks do what nobody expects of them, and compares the
// outcome with net.Dialer's.
func TestHooksOfAllKinds(t *testing.T) {
	skipPortable(t, "a retry follows net's own")
	isolated(t, func(t *testing.T) {
		setLocalPorts(t, 40000, 40003)
		hasPortRange := nstest.HasPortRange(t, 0)
		l := nstest.Echo(t, "127.0.0.1:9000")
		for name, control := range map[string]controlFunc{
			"TCP_FASTOPEN_CONNECT": setOption(unix.SOL_TCP, unix.TCP_FASTOPEN_CONNECT, 1),
			"SO_MARK":              setOption(unix.SOL_SOCKET, unix.SO_MARK, 7),
			"IP_FREEBIND":          setOption(unix.SOL_IP, unix.IP_FREEBIND, 1),
			"SO_REUSEPORT":         setOption(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
			"TCP_SYNCNT":           setOption(unix.SOL_TCP, unix.TCP_SYNCNT, 1),
			"a device":             onSocket(func(fd int) error { return unix.BindToDevice(fd, "lo") }),
			"blocking":             onSocket(func(fd int) error { return unix.SetNonblock(fd, false) }),
			"an error ignored": onSocket(func(fd int) error {
				_ = unix.Bind(fd, &unix.SockaddrInet4{Port: 40002, Addr: [4]byte{127, 0, 0, 1}})
				return nil
			}),
			"a dial of its own": func(string, string, syscall.RawConn) error {
				conn, err := safedial.Dial("tcp", l.Addr().String())
				if err == nil {
					nstest.Reset(conn)
				}
				return err
			},
		} {
			for _, address := range []string{"127.0.0.1:9000", "127.0.0.1:40002", "127.0.0.1:9", "[::1]:40002"} {
				conn, want := (&net.Dialer{Control: control, Timeout: 5 * time.Second}).Dial("tcp", address)
				if want == nil && safedial.IsSelfConnect(conn) {
					want = fmt.Errorf("dial tcp %s: %w", address, safedial.ErrSelfConnect) // net has given up
				}
				if conn != nil {
					nstest.Reset(conn)
				}
				for kind, dial := range dialsOf(&safedial.Dialer{Control: control, Timeout: 5 * time.Second}) {
					conn, err := dial("tcp", address)
					// Two cases have more than one outcome, and all are refusals. A self-connection that
					// net has closed can have left TIME_WAIT on the port that the hook binds. And if
					// the kernel cannot be told a range, it may choose the port again and again.
					ofItself := strings.HasSuffix(address, ":40002")
					if ofItself && (name == "an error ignored" || !hasPortRange) {
						assert.ErrorIs(t, err, syscall.ECONNREFUSED, "%s %s, %s", kind, address, name)
						continue
					}
					assert.Equal(t, fmt.Sprint(want), fmt.Sprint(err), "%s %s, %s", kind, address, name)
					if conn != nil {
						assert.False(t, safedial.IsSelfConnect(conn), "%s %s, %s", kind, address, name)
						nstest.Reset(conn)
					}
				}
			}
		}
	})
}

// setOption returns a hook that sets an option of the socket.
func setOption(level, option, value int) controlFunc {
	return onSocket(func(fd int) error { return unix.SetsockoptInt(fd, level, option, value) })
}

// setLinger returns a hook that makes the socket linger.
func setLinger(seconds int32) controlFunc {
	return onSocket(func(fd int) error {
		return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: seconds})
	})
}

// TestPoolOfPorts has a hook bind the next port of a pool: like net, safedial calls
// it again if the port is taken for this destination.
func TestPoolOfPorts(t *testing.T) {
	skipPortable(t, "a retry follows net's own")
	isolated(t, func(t *testing.T) {
		nstest.Serve(t, "tcp", "127.0.0.1:9000")
		next := 9100
		pool := func(network, _ string, c syscall.RawConn) error {
			return nstest.OnSocket(c, func(fd int) error {
				next++
				return errors.Join(
					unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
					nstest.BindTo(fd, network, "127.0.0.1", uint16(next)),
				)
			})
		}
		dials := dialsOf(&safedial.Dialer{Control: pool})
		dials["net"] = (&net.Dialer{Control: pool}).Dial
		for busy := range 4 { // as many ports of the pool are connected to the destination
			for kind, dial := range dials {
				next = 9100
				conn, err := dial("tcp", "127.0.0.1:9000")
				if busy < 3 {
					require.NoError(t, err, "%s, %d busy", kind, busy)
					assert.EqualValues(t, 9100+busy+1, portOf(conn), kind)
					nstest.Reset(conn)
				} else {
					assert.ErrorIs(t, err, syscall.EADDRNOTAVAIL, kind)
					assert.Equal(t, 9103, next, "%s: three sockets", kind)
				}
			}
			next = 9100 + busy
			conn, err := dials["net"]("tcp", "127.0.0.1:9000")
			require.NoError(t, err)
			defer nstest.Reset(conn)
		}
	})
}

// TestCallersPortRange has the caller's hook limit the choice: safedial limits it
// further, and never widens it.
func TestCallersPortRange(t *testing.T) {
	isolated(t, func(t *testing.T) {
		requirePortRange(t, "the caller's range holds")
		setLocalPorts(t, 40000, 40099)
		for _, c := range []struct {
			set, want, outside safedial.PortRange // want: to 40050; outside: to 9000
		}{
			{ports(40050, 40052), ports(40050, 40052), ports(40050, 40052)},
			{ports(40049, 40050), ports(40049, 40049), ports(40049, 40050)},
			{ports(40050, 40051), ports(40051, 40051), ports(40050, 40051)},
			{ports(0, 40010), ports(40000, 40010), ports(40000, 40010)},
			{ports(40090, 0), ports(40090, 40099), ports(40090, 40099)},
		} {
			for _, local := range []net.Addr{nil, tcp("127.0.0.1", 0)} {
				for port, want := range map[int]safedial.PortRange{40050: c.want, 9000: c.outside} {
					d := safedial.Dialer{
						LocalAddr: local,
						Control:   onSocket(func(fd int) error { return nstest.LimitPorts(fd, c.set.Low, c.set.High) }),
					}
					l := nstest.Serve(t, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
					for range 20 {
						conn, err := d.Dial("tcp", l.Addr().String())
						require.NoError(t, err, "%v", c)
						assert.True(
							t,
							want.Contains(portOf(conn)),
							"%v of the caller's, from %v to %d: %d",
							c.set,
							local,
							port,
							portOf(conn),
						)
						nstest.AssertReal(t, conn)
					}
					l.Close()
				}
			}
		}
	})
}

// TestCallersLingering: a hook that makes the socket linger keeps no port of a
// self-connection from a server. A connection lingers as a hook of net.Dialer's would
// have it: see TestDifferential.
func TestCallersLingering(t *testing.T) {
	isolated(t, func(t *testing.T) {
		setLocalPorts(t, onlyPort, onlyPort)
		for _, seconds := range []int32{0, 5} {
			for _, local := range []*net.TCPAddr{nil, {}, tcp("127.0.0.1", 0), tcp("127.0.0.1", onlyPort)} {
				for kind, dial := range dialsOf(&safedial.Dialer{LocalAddr: local, Control: setLinger(seconds)}) {
					_, err := dial("tcp", "127.0.0.1:40000")
					require.ErrorIs(t, err, safedial.ErrSelfConnect, "%s from %v", kind, local)
					nstest.RequireFree(t, onlyPort, "%s from %v", kind, local)
				}
			}
		}
	})
}

// TestOptionsAfterUndo: a connection that needed a retry has the options that the
// caller's hook sets, as a first dial's.
func TestOptionsAfterUndo(t *testing.T) {
	isolated(t, func(t *testing.T) {
		setLocalPorts(t, 40000, 40000)
		var undone atomic.Int64
		count := countSelf(&undone)
		after := dialWithOptions(t, func(ctx context.Context, r safedial.Retry) {
			if count(ctx, r); undone.Load() == 1 {
				setLocalPorts(t, 40000, 40001)
				nstest.Serve(t, "tcp", "127.0.0.1:40000")
			}
		})
		require.Positive(t, undone.Load())
		assert.Equal(t, dialWithOptions(t, nil), after)
	}, unix.IP_LOCAL_PORT_RANGE) // so that the kernel chooses the destination's port
}

// callersOptions are options that a hook sets: level, option, value.
var callersOptions = [][3]int{
	{unix.SOL_TCP, unix.TCP_MAXSEG, 1000},       // lost when the connection is undone
	{unix.SOL_TCP, unix.TCP_WINDOW_CLAMP, 5000}, // lost
	{unix.SOL_TCP, unix.TCP_USER_TIMEOUT, 4000},
	{unix.SOL_TCP, unix.TCP_LINGER2, 7},
	{unix.SOL_TCP, unix.TCP_NOTSENT_LOWAT, 9000},
	{unix.SOL_IP, unix.IP_TOS, 8},
	{unix.SOL_SOCKET, unix.SO_PRIORITY, 3},
	{unix.SOL_SOCKET, unix.SO_OOBINLINE, 1},
	{unix.SOL_SOCKET, unix.SO_ERROR, readOnly},
	{unix.SOL_SOCKET, unix.SO_REUSEADDR, readOnly},
}

const readOnly = -1

// dialWithOptions dials with a hook that sets callersOptions, and returns the
// connection's.
func dialWithOptions(t *testing.T, onRetry func(context.Context, safedial.Retry)) (got [][3]int) {
	t.Helper()
	d := safedial.Dialer{OnRetry: onRetry, Control: onSocket(func(fd int) error {
		for _, o := range callersOptions {
			if o[2] == readOnly {
				continue
			}
			if err := unix.SetsockoptInt(fd, o[0], o[1], o[2]); err != nil {
				return fmt.Errorf("%v: %w", o, err)
			}
		}
		return nil
	})}
	conn, err := d.Dial("tcp", "127.0.0.1:40000")
	require.NoError(t, err)
	defer nstest.Reset(conn)
	require.NoError(t, nstest.OnSocket(nstest.RawConn(t, conn), func(fd int) error {
		for _, o := range callersOptions {
			value, err := unix.GetsockoptInt(fd, o[0], o[1])
			if err != nil {
				return err
			}
			got = append(got, [3]int{o[0], o[1], value})
		}
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLOUT}}
		_, err := unix.Poll(poll, 0)
		assert.Zero(t, poll[0].Revents&(unix.POLLERR|unix.POLLHUP), "poll state")
		return err
	}))
	return got
}

// TestOwnPortBesideServer dials from the destination's own port while a server has it
// too, with SO_REUSEPORT: the kernel finds the dialing socket before the listener.
func TestOwnPortBesideServer(t *testing.T) {
	isolated(t, func(t *testing.T) {
		reuse := setOption(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		l, err := (&net.ListenConfig{Control: reuse}).Listen(t.Context(), "tcp", "127.0.0.1:40000")
		require.NoError(t, err)
		defer l.Close()
		d := safedial.Dialer{Control: reuse, LocalAddr: tcp("127.0.0.1", 40000)}
		_, err = d.Dial("tcp", "127.0.0.1:40000")
		assert.ErrorIs(t, err, safedial.ErrSelfConnect)
		conn, err := safedial.Dial("tcp", "127.0.0.1:40000")
		require.NoError(t, err, "from another port")
		nstest.Reset(conn)
	})
}
