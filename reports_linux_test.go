package safedial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptrace"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

// TestPoolOfPorts has a hook bind the next port of a pool: like net, safedial calls
// it again if the port is taken for this destination.
func TestPoolOfPorts(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		serve(t, "tcp", "127.0.0.1:9000")
		for _, busy := range []int{0, 1, 2, 3} {
			for kind, build := range map[string]func(control func(string, string, syscall.RawConn) error) methods{
				"net": func(control func(string, string, syscall.RawConn) error) methods {
					return &net.Dialer{Control: control}
				},
				"Dialer": func(control func(string, string, syscall.RawConn) error) methods {
					return &Dialer{Control: control}
				},
				"NetDialer": func(control func(string, string, syscall.RawConn) error) methods {
					return (&Dialer{Control: control}).NetDialer()
				},
			} {
				next := uint16(9100)
				pool := func(network, _ string, c syscall.RawConn) error {
					return onSocket(c, func(fd int) error {
						next++
						return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), bindTo(fd, network, "127.0.0.1", next))
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
					hangUp(conn)
				} else {
					assert.ErrorIs(t, err, syscall.EADDRNOTAVAIL, kind)
					assert.EqualValues(t, 9103, next, "%s: three sockets", kind)
				}
				for _, conn := range held {
					hangUp(conn)
				}
			}
		}
	})
}

// TestNetDialerRetries: MaxRetries and OnRetry hold for its TCP dials too.
func TestNetDialerRetries(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		setLocalPorts(t, PortRange{onlyPort, onlyPort})
		for maxRetries, want := range map[int]int{-1: 0, 0: 2, 4: 4} {
			for _, local := range []net.Addr{nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}} {
				retries := 0
				d := Dialer{LocalAddr: local, MaxRetries: maxRetries, OnRetry: func(_ context.Context, r Retry) {
					retries++
					assert.Equal(t, Retry{"tcp4", "127.0.0.1:40000", retries, ErrSelfConnect}, r)
				}}
				_, err := d.NetDialer().Dial("tcp", "127.0.0.1:40000")
				assert.ErrorIs(t, err, ErrSelfConnect)
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
					nstest.WithoutOptions(t, options...)
				}
				setLocalPorts(t, PortRange{40000, 40019})
				takeAllUDPPorts(t, PortRange{40001, 40009})
				takeAllUDPPorts(t, PortRange{40011, 40019})
				for _, local := range []net.Addr{nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.UDPAddr{}} {
					for kind, dial := range dialsOf(&Dialer{LocalAddr: local}) {
						failed := 0
						for range 200 {
							conn, err := dial("udp", "127.0.0.1:40010")
							if err != nil {
								failed++
								continue
							}
							assert.False(t, IsSelfConnect(conn), kind)
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
	l := serve(t, "tcp", "127.0.0.1:0")
	var d Dialer
	for range 200 {
		d.Cancel = make(chan struct{})
		conn, err := d.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		hangUp(conn)
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
		raiseDescriptorLimit(t, 2*connections+servers+500)
		listen := backlog(t, "127.0.0.1:9000", connections)
		for name, dial := range map[string]func(network, address string) (net.Conn, error){
			"net.Dialer": net.Dial, "Dialer": Dial, "NetDialer": new(Dialer).NetDialer().Dial,
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
		defer hangUp(conn)
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

// backlog returns a function that makes a server at address whose backlog holds n
// connections, in place of the one before.
func backlog(t *testing.T, address string, n int) func() string {
	t.Helper()
	nstest.Sysctl(t, "/proc/sys/net/core/somaxconn", fmt.Sprint(n+100))
	var l net.Listener
	t.Cleanup(func() { l.Close() })
	return func() string {
		if l != nil {
			l.Close()
		}
		var err error
		l, err = net.Listen("tcp", address)
		require.NoError(t, err)
		require.NoError(t, onSocket(rawConn(t, l), func(fd int) error { return unix.Listen(fd, n+100) }))
		return l.Addr().String()
	}
}

// TestUDPWaitsForAPort has every port taken, and one freed 50 ms later.
func TestUDPWaitsForAPort(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		setLocalPorts(t, PortRange{40000, 40003})
		from := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}
		for name, c := range map[string]struct {
			local net.Addr
			dial  func(d *Dialer) (net.Conn, error)
			errno error
		}{
			"Dialer":              {nil, func(d *Dialer) (net.Conn, error) { return d.Dial("udp", "127.0.0.1:9000") }, os.NewSyscallError("connect", syscall.EAGAIN)},
			"Dialer from IP:0":    {from, func(d *Dialer) (net.Conn, error) { return d.Dial("udp", "127.0.0.1:9000") }, os.NewSyscallError("bind", syscall.EADDRINUSE)},
			"NetDialer from IP:0": {from, func(d *Dialer) (net.Conn, error) { return d.NetDialer().Dial("udp", "127.0.0.1:9000") }, os.NewSyscallError("bind", syscall.EADDRINUSE)},
			"Dialer, inside":      {nil, func(d *Dialer) (net.Conn, error) { return d.Dial("udp", "127.0.0.1:40001") }, os.NewSyscallError("connect", syscall.EAGAIN)},
		} {
			t.Run(name, func(t *testing.T) {
				taken := takeAllUDPPorts(t, PortRange{40000, 40003})
				retries := 0
				d := Dialer{LocalAddr: c.local, MaxRetries: -1}
				_, err := c.dial(&d)
				assert.Equal(t, c.errno, opError(t, err).Err)

				d.MaxRetries = 20
				d.OnRetry = func(_ context.Context, r Retry) {
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
		nstest.RequirePortRange(t)
		setLocalPorts(t, PortRange{40000, 40004})
		for _, isReserved := range []bool{false, true} {
			for _, side := range []PortRange{{40000, 40001}, {40003, 40004}} {
				var taken []net.PacketConn
				if isReserved {
					nstest.Sysctl(t, reservedPortsFile, side.String())
					cachedPorts.Store(nil)
				} else {
					taken = takeAllUDPPorts(t, side)
				}
				for _, local := range []net.Addr{nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}} {
					d := Dialer{LocalAddr: local, MaxRetries: -1, OnRetry: func(_ context.Context, r Retry) { t.Error(r) }}
					for range 200 {
						conn, err := d.Dial("udp", "127.0.0.1:40002")
						require.NoError(t, err, "from %v, %s, reserved %t", local, side, isReserved)
						conn.Close()
					}
				}
				for _, packets := range taken {
					packets.Close()
				}
				nstest.Sysctl(t, reservedPortsFile, "\n")
			}
		}
	})
}

// TestLocalPortsSayWhy: a dial that cannot get a port fails immediately, and says what
// leaves none.
func TestLocalPortsSayWhy(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.RequirePortRange(t)
		nstest.Sysctl(t, reservedPortsFile, "50000-50099")
		setLocalPorts(t, PortRange{32768, 60999})
		limit := func(low, high uint16) func(string, string, syscall.RawConn) error {
			return func(_, _ string, c syscall.RawConn) error {
				return onSocket(c, func(fd int) error { return setLocalPortRange(fd, PortRange{low, high}) })
			}
		}
		for want, d := range map[string]Dialer{
			"local ports 50000-50099: all reserved by ip_local_reserved_ports":                                                   {LocalPorts: PortRange{50000, 50099}},
			"local ports 40000-40010: none in the range 41000-41010 that the caller's hook has set":                              {LocalPorts: PortRange{40000, 40010}, Control: limit(41000, 41010)},
			"avoid ports [40000 40001]: no port other than [9000 40000 40001] in the range 40000-40001":                          {AvoidPorts: []uint16{40001, 40000}, Control: limit(40000, 40001)},
			"local ports 40000-40001: no port other than [9000 40000 40001] in the range 40000-40001": {LocalPorts: PortRange{40000, 40001}, AvoidPorts: []uint16{40000, 40001}},
		} {
			d.MaxRetries = 1000
			d.OnRetry = func(_ context.Context, r Retry) { t.Errorf("retried: %v", r.Err) }
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
		serve(t, "tcp", "127.0.0.1:40000")
		takeAllPorts(t, "127.0.0.1:40000", PortRange{40001, 40003})
		check := func(err error) {
			require.Error(t, err)
			for ; err != nil; err = errors.Unwrap(err) {
				if !errors.Is(err, ErrSelfConnect) {
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
				d := Dialer{LocalAddr: local}
				_, err := d.DialContext(ctx, "tcp", address)
				check(err)
				if op := opError(t, err); !errors.Is(err, ErrSelfConnect) {
					assert.IsType(t, (*os.SyscallError)(nil), op.Err)
					assert.IsType(t, syscall.Errno(0), errors.Unwrap(op.Err), "net's own chain")
				}
				_, err = d.NetDialer().DialContext(ctx, "tcp", address)
				check(err)
				if op := opError(t, err); !errors.Is(err, ErrSelfConnect) {
					assert.IsType(t, (*os.SyscallError)(nil), op.Err)
				}
			}
		}
	})
}

// TestLosingLegIsClosed: of two addresses that both accept, the one that loses is
// closed as by net, and not reset.
func TestLosingLegIsClosed(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		resolver := zone{"both.test": {netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")}}.resolver(t)
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
			d := Dialer{Resolver: resolver, LocalAddr: &net.TCPAddr{}, FallbackDelay: 1}
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
		resolver := zone{"both.test": {netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")}}.resolver(t)
		for _, local := range []string{"127.0.0.1", "::1"} {
			plain := net.Dialer{Resolver: resolver, LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}
			d := Dialer{Resolver: resolver, LocalAddr: plain.LocalAddr}
			_, want := plain.Dial("tcp", "both.test:9")
			_, err := d.Dial("tcp", "both.test:9")
			require.ErrorIs(t, err, syscall.ECONNREFUSED)
			assert.Equal(t, chain(want), chain(err))
			_, err = d.NetDialer().Dial(map[string]string{"127.0.0.1": "tcp4", "::1": "tcp6"}[local], "both.test:9")
			assert.ErrorIs(t, err, syscall.ECONNREFUSED, "NetDialer, told the family")

			l := serve(t, "tcp", net.JoinHostPort(local, "40000"))
			for kind, dial := range dialsOf(&d) {
				conn, err := dial("tcp", "both.test:40000")
				require.NoError(t, err, kind)
				assertReal(t, conn, kind)
			}
			l.Close()
		}
	})
}

// TestDialTCPTriesOneAddress: "::" does not fall back to IPv4.
func TestDialTCPTriesOneAddress(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		serve(t, "tcp4", "127.0.0.1:40000")
		_, err := new(Dialer).DialTCP(t.Context(), "tcp", netip.AddrPort{}, netip.MustParseAddrPort("[::]:40000"))
		assert.ErrorIs(t, err, syscall.ECONNREFUSED)
		assert.EqualError(t, err, "dial tcp [::]:40000: connect: connection refused")
		conn, err := Dial("tcp", "[::]:40000")
		require.NoError(t, err, "Dial falls back, as net's")
		hangUp(conn)
	})
}

// TestZonesAsNet reads zones as net does.
func TestZonesAsNet(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		if path, err := exec.LookPath("ip"); err == nil {
			_ = exec.Command(path, "link", "property", "add", "dev", "lo", "altname", "loopback-by-another-name").Run()
		}
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0)
		require.NoError(t, err)
		defer unix.Close(fd)
		for zone, want := range map[string]uint32{"": 0, "lo": 1, "lo:1": 0, "loopback-by-another-name": 0, "3x": 3, "7": 7, "x3": 0, "-1": 0, "16777215": 0xFFFFFF, "99999999999": 0xFFFFFF, "a-name-that-is-too-long": 0} {
			assert.Equal(t, want, zoneID(fd, zone), "%q", zone)
		}
		for _, zone := range []string{"lo", "lo:1", "3x", "1", "1x", "nosuch", "loopback-by-another-name"} {
			address := net.JoinHostPort("fe80::1%"+zone, "80")
			_, want := (&net.Dialer{Timeout: time.Second}).Dial("tcp", address)
			_, err := (&Dialer{Timeout: time.Second}).Dial("tcp", address)
			require.Error(t, want)
			assert.EqualError(t, err, want.Error())
		}
	})
}

// TestDialedAddressOfError: an error found in net's result names what was dialed.
func TestDialedAddressOfError(t *testing.T) {
	elsewhere := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7}
	for _, c := range []struct{ network, address, want string }{
		{"tcp", "192.0.2.1:80", "192.0.2.1:80"},
		{"tcp", ":80", "127.0.0.1:7"},
		{"tcp", "[::]:80", "[::]:80"},
		{"tcp6", "[fe80::1%lo]:80", "[fe80::1%lo]:80"},
		{"udp", "10.96.0.1:53", "10.96.0.1:53"},
		{"tcp", "name.test:80", "127.0.0.1:7"},
		{"tcp", "nonsense", "127.0.0.1:7"},
	} {
		target := newTarget(c.network, c.address, nil)
		assert.Equal(t, c.want, target.remoteAddr(elsewhere).String())
	}
}

// TestOwnPortBesideServer dials from the destination's own port while a server has it
// too, with SO_REUSEPORT: the kernel finds the dialing socket before the listener.
func TestOwnPortBesideServer(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		reuse := func(_, _ string, c syscall.RawConn) error {
			return onSocket(c, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		}
		lc := net.ListenConfig{Control: reuse}
		l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:40000")
		require.NoError(t, err)
		defer l.Close()
		d := Dialer{Control: reuse, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}}
		_, err = d.Dial("tcp", "127.0.0.1:40000")
		assert.ErrorIs(t, err, ErrSelfConnect)
		conn, err := Dial("tcp", "127.0.0.1:40000")
		require.NoError(t, err, "from another port")
		hangUp(conn)
	})
}

// TestOptionsAfterUndo: a connection that needed a retry has the options that the
// caller's hook sets, as a first dial's.
func TestOptionsAfterUndo(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.WithoutOptions(t, unix.IP_LOCAL_PORT_RANGE) // so that the kernel chooses the port
		setLocalPorts(t, PortRange{40000, 40000})
		var once sync.Once
		var mu sync.Mutex
		undone := 0
		options := [][3]int{
			{unix.SOL_TCP, unix.TCP_MAXSEG, 1000}, {unix.SOL_TCP, unix.TCP_WINDOW_CLAMP, 5000}, {unix.SOL_TCP, unix.TCP_SYNCNT, 3},
			{unix.SOL_TCP, unix.TCP_USER_TIMEOUT, 4000}, {unix.SOL_TCP, unix.TCP_LINGER2, 7}, {unix.SOL_TCP, unix.TCP_NOTSENT_LOWAT, 9000},
			{unix.SOL_TCP, unix.TCP_DEFER_ACCEPT, 1}, {unix.SOL_IP, unix.IP_TOS, 8}, {unix.SOL_SOCKET, unix.SO_PRIORITY, 3},
			{unix.SOL_SOCKET, unix.SO_OOBINLINE, 1}, {unix.SOL_IP, unix.IP_TTL, 33}, {unix.SOL_IP, unix.IP_RECVERR, 1},
		}
		dial := func(d Dialer) map[[3]int]int {
			d.Control = func(_, _ string, c syscall.RawConn) error {
				return onSocket(c, func(fd int) error {
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
			defer hangUp(conn)
			got := map[[3]int]int{}
			require.NoError(t, onSocket(rawConn(t, conn), func(fd int) error {
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
		after := dial(Dialer{OnRetry: func(_ context.Context, r Retry) {
			mu.Lock()
			defer mu.Unlock()
			undone++
			assert.ErrorIs(t, r.Err, ErrSelfConnect)
			once.Do(func() {
				setLocalPorts(t, PortRange{40000, 40001})
				serve(t, "tcp", "127.0.0.1:40000")
			})
		}})
		require.Positive(t, undone)
		first := dial(Dialer{})
		assert.Equal(t, first, after)
	})
}
