package safedial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptrace"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

// methods is what net.Dialer and Dialer have in common.
type methods interface {
	Dial(network, address string) (net.Conn, error)
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	DialTCP(ctx context.Context, network string, laddr, raddr netip.AddrPort) (*net.TCPConn, error)
	DialUDP(ctx context.Context, network string, laddr, raddr netip.AddrPort) (*net.UDPConn, error)
	DialIP(ctx context.Context, network string, laddr, raddr netip.Addr) (*net.IPConn, error)
	DialUnix(ctx context.Context, network string, laddr, raddr *net.UnixAddr) (*net.UnixConn, error)
	MultipathTCP() bool
	SetMultipathTCP(use bool)
}

var (
	_ methods = (*net.Dialer)(nil)
	_ methods = (*Dialer)(nil)
)

// like returns a Dialer with the exported fields of nd.
func like(nd net.Dialer) *Dialer {
	d := new(Dialer)
	from, to := reflect.ValueOf(nd), reflect.ValueOf(d).Elem()
	for i := range from.NumField() {
		if field := from.Type().Field(i); field.IsExported() {
			to.FieldByName(field.Name).Set(from.Field(i))
		}
	}
	return d
}

// A difference is a dial that both dialers must do alike.
type difference struct {
	name             string
	network, address string
	dialer           net.Dialer
	mptcp            bool
	ctx              func() (context.Context, context.CancelFunc)
	dial             func(m methods, ctx context.Context) (net.Conn, error) // default: DialContext
	before           func(t *testing.T)
	retried          bool // Dialer reports each attempt to the trace
	raced            bool // net gives one of two outcomes, by chance
}

const (
	livePort = "40000" // in the local port range, with a server
	deadPort = "9"     // below it, without one
)

func differences(dir string) []difference {
	tcp := func(ip string, port int) *net.TCPAddr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: port} }
	within := func(d time.Duration) func() (context.Context, context.CancelFunc) {
		return func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), d)
		}
	}
	canceled := func() (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return ctx, cancel
	}
	failing := errors.New("refused by the caller's hook")
	refuse := func(string, string, syscall.RawConn) error { return failing }
	bindControl := func(ip string) func(string, string, syscall.RawConn) error {
		return func(network, _ string, c syscall.RawConn) error {
			return onSocket(c, func(fd int) error {
				return os.NewSyscallError("bind", bindTo(fd, network, ip, 9999))
			})
		}
	}
	live := func(host string) string { return net.JoinHostPort(host, livePort) }
	dead := func(host string) string { return net.JoinHostPort(host, deadPort) }
	here := netip.MustParseAddr("127.0.0.1")
	liveAddr, deadAddr := netip.AddrPortFrom(here, 40000), netip.AddrPortFrom(here, 9)
	dialTCP := func(network string, laddr, raddr netip.AddrPort) func(methods, context.Context) (net.Conn, error) {
		return func(m methods, ctx context.Context) (net.Conn, error) {
			return untyped(m.DialTCP(ctx, network, laddr, raddr))
		}
	}

	rows := []difference{
		{name: "keep-alive off", address: live("127.0.0.1"), dialer: net.Dialer{KeepAlive: -1}},
		{name: "keep-alive period", address: live("127.0.0.1"), dialer: net.Dialer{KeepAlive: 42 * time.Second}},
		{name: "keep-alive config", address: live("127.0.0.1"), dialer: net.Dialer{KeepAlive: -1, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 11 * time.Second, Interval: 7 * time.Second, Count: 3}}},
		{name: "keep-alive config as it is", address: live("127.0.0.1"), dialer: net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}}},
		{name: "keep-alive config not enabled", address: live("127.0.0.1"), dialer: net.Dialer{KeepAlive: -1, KeepAliveConfig: net.KeepAliveConfig{Idle: time.Second}}},
		{name: "timeout", address: live("127.0.0.1"), dialer: net.Dialer{Timeout: time.Minute}},
		{name: "deadline", address: live("127.0.0.1"), dialer: net.Dialer{Deadline: time.Now().Add(time.Hour)}},
		{name: "timeout and deadline", address: live("127.0.0.1"), dialer: net.Dialer{Timeout: time.Minute, Deadline: time.Now().Add(time.Hour)}},
		{name: "context deadline", address: live("127.0.0.1"), ctx: within(time.Minute)},
		{name: "Cancel never closed", address: live("127.0.0.1"), dialer: net.Dialer{Cancel: make(chan struct{})}},
		{name: "DualStack", address: live("localhost"), dialer: net.Dialer{DualStack: true}},
		{name: "no fast fallback", address: live("localhost"), dialer: net.Dialer{FallbackDelay: -1}},
		{name: "Resolver", address: live("localhost"), dialer: net.Dialer{Resolver: &net.Resolver{PreferGo: true}}},
		{name: "multipath", address: live("127.0.0.1"), mptcp: true},
		{name: "multipath IPv6", address: live("::1"), mptcp: true},
		{name: "multipath refused", address: dead("127.0.0.1"), mptcp: true},
		{name: "multipath from an address", address: live("127.0.0.1"), mptcp: true, dialer: net.Dialer{LocalAddr: tcp("127.0.0.1", 0)}},

		{name: "from an address", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp("127.0.0.1", 0)}},
		{name: "from another address", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp(nstest.OwnAddress, 0)}},
		{name: "from an IPv6 address", address: live("::1"), dialer: net.Dialer{LocalAddr: tcp("::1", 0)}},
		{name: "from a port", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp("127.0.0.1", 9999)}},
		{name: "from a port of any address", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: &net.TCPAddr{Port: 9999}}},
		{name: "from anywhere", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: &net.TCPAddr{}}},
		{name: "from any IPv4 address", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp("0.0.0.0", 0)}},
		{name: "from any IPv6 address to IPv4", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp("::", 0)}},
		{name: "from any IPv6 address to IPv6", address: live("::1"), dialer: net.Dialer{LocalAddr: tcp("::", 0)}},
		{name: "from a nil pointer", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: (*net.TCPAddr)(nil)}},
		{name: "from a nil pointer, refused", address: dead("127.0.0.1"), dialer: net.Dialer{LocalAddr: (*net.TCPAddr)(nil)}},
		{name: "from an address, by name", address: live("localhost"), dialer: net.Dialer{LocalAddr: tcp("127.0.0.1", 0)}},
		{name: "from an IPv6 address, by name", address: live("localhost"), dialer: net.Dialer{LocalAddr: tcp("::1", 0)}},
		{name: "from an address, refused", address: dead("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp("127.0.0.1", 0)}},
		{name: "from a port, refused", address: dead("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp("127.0.0.1", 9999)}},
		{name: "from a foreign address", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp("192.0.2.1", 0)}},
		{name: "from a foreign port", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp("192.0.2.1", 9999)}},
		{name: "from a taken port", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp("127.0.0.1", 40000)}},
		{name: "from the other family", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp("::1", 0)}},
		{name: "from a UDP address", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}}},
		{name: "from an IP address", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: &net.IPAddr{IP: net.IPv4(127, 0, 0, 1)}}},
		{name: "from a unix address", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: &net.UnixAddr{Name: "x", Net: "unix"}}},
		{name: "from an address of no length", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IP{1, 2, 3}}}},

		{name: "Control refuses", address: live("127.0.0.1"), dialer: net.Dialer{Control: refuse}},
		{name: "Control refuses each address", address: live("localhost"), dialer: net.Dialer{Control: refuse}},
		{name: "ControlContext before Control", address: live("127.0.0.1"), dialer: net.Dialer{Control: refuse,
			ControlContext: func(context.Context, string, string, syscall.RawConn) error { return nil }}},
		{name: "ControlContext refuses", address: live("127.0.0.1"), dialer: net.Dialer{
			ControlContext: func(context.Context, string, string, syscall.RawConn) error { return failing }}},
		{name: "Control binds", address: live("127.0.0.1"), dialer: net.Dialer{Control: bindControl("127.0.0.1")}},
		{name: "Control binds, refused", address: dead("127.0.0.1"), dialer: net.Dialer{Control: bindControl("127.0.0.1")}},
		{name: "Control binds a foreign address", address: live("127.0.0.1"), dialer: net.Dialer{Control: bindControl("192.0.2.1")}},
		{name: "Control and LocalAddr bind", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp("127.0.0.1", 0), Control: bindControl("127.0.0.1")}},
		{name: "Control sets options", address: live("127.0.0.1"), dialer: net.Dialer{
			Control: func(_, _ string, c syscall.RawConn) error {
				return onSocket(c, func(fd int) error {
					return errors.Join(
						unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 5}),
						unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
				})
			}}},
		{name: "Control lingers, from an address", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp("127.0.0.1", 0),
			Control: func(_, _ string, c syscall.RawConn) error {
				return onSocket(c, func(fd int) error {
					return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 5})
				})
			}}},
		{name: "Control connects", address: live("127.0.0.1"), dialer: net.Dialer{
			Control: func(_, _ string, c syscall.RawConn) error {
				return onSocket(c, func(fd int) error {
					if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 40000}); err != unix.EINPROGRESS {
						return err
					}
					return nil
				})
			}}},

		{name: "unknown network", network: "tcp5", address: live("127.0.0.1")},
		{name: "no network", network: "-", address: live("127.0.0.1")},
		{name: "IP network without a protocol", network: "ip4", address: "127.0.0.1"},
		{name: "no address", address: ""},
		{name: "no port", address: "127.0.0.1"},
		{name: "empty port", address: "127.0.0.1:"},
		{name: "port 0", address: "127.0.0.1:0"},
		{name: "port too high", address: "127.0.0.1:65536"},
		{name: "negative port", address: "127.0.0.1:-1"},
		{name: "highest port", address: "127.0.0.1:65535"},
		{name: "lowest port", address: "127.0.0.1:1"},
		{name: "unknown service", address: "127.0.0.1:no-such-service"},
		{name: "service", address: "127.0.0.1:discard"},
		{name: "too many colons", address: "::1:80"},
		{name: "no closing bracket", address: "[::1:80"},
		{name: "name with a space", address: "no such host:80"},
		{name: "IPv6 on tcp4", network: "tcp4", address: live("::1")},
		{name: "IPv4 on tcp6", network: "tcp6", address: live("127.0.0.1")},
		{name: "v4-mapped on tcp6", network: "tcp6", address: live("::ffff:127.0.0.1")},
		{name: "IPv6 wildcard on tcp4", network: "tcp4", address: live("::")},
		{name: "IPv4 wildcard on tcp6", network: "tcp6", address: live("0.0.0.0")},
		{name: "unknown zone", address: "[fe80::1%nosuchzone]:80"},
		{name: "zone of another kind", address: "[::1%lo]:40000"},
		{name: "zone by number", address: "[fe80::1%1]:80"},
		{name: "zone too long", address: "[fe80::1%an-interface-name-too-long]:80"},
		{name: "unreachable", address: "192.0.2.1:80"},
		{name: "unreachable IPv6", address: "[2001:db8::1]:80"},
		{name: "broadcast", address: "255.255.255.255:80"},
		{name: "loopback broadcast", address: "127.255.255.255:80"},
		{name: "multicast", address: "224.0.0.1:80"},

		{name: "negative timeout", address: live("127.0.0.1"), dialer: net.Dialer{Timeout: -1}},
		{name: "negative timeout, by name", raced: true, address: live("localhost"), dialer: net.Dialer{Timeout: -1}},
		{name: "negative timeout, unix", network: "unix", address: filepath.Join(dir, "live"), dialer: net.Dialer{Timeout: -1}},
		{name: "past deadline", address: live("127.0.0.1"), dialer: net.Dialer{Deadline: time.Unix(1, 0)}},
		{name: "past context deadline", address: live("127.0.0.1"), ctx: within(-time.Second)},
		{name: "canceled context", address: live("127.0.0.1"), ctx: canceled},
		{name: "canceled context, by name", raced: true, address: live("localhost"), ctx: canceled},
		{name: "canceled context, from an address", address: live("127.0.0.1"), ctx: canceled, dialer: net.Dialer{LocalAddr: tcp("127.0.0.1", 0)}},
		{name: "canceled context, bad address", address: "127.0.0.1", ctx: canceled},
		{name: "nil context", address: live("127.0.0.1"), ctx: func() (context.Context, context.CancelFunc) { return nil, func() {} }},
		{name: "nil context with a timeout", address: live("127.0.0.1"), dialer: net.Dialer{Timeout: time.Minute}, ctx: func() (context.Context, context.CancelFunc) { return nil, func() {} }},
		{name: "silent, context deadline", address: "127.0.0.1:9000", ctx: within(50 * time.Millisecond)},
		{name: "silent, timeout", address: "127.0.0.1:9000", dialer: net.Dialer{Timeout: 50 * time.Millisecond}},
		{name: "silent, from an address", address: "127.0.0.1:9000", dialer: net.Dialer{Timeout: 50 * time.Millisecond, LocalAddr: tcp("127.0.0.1", 0)}},
		{name: "silent, canceled", address: "127.0.0.1:9000", ctx: func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(50*time.Millisecond, cancel)
			return ctx, cancel
		}},
		{name: "silent, Cancel", address: "127.0.0.1:9000", dialer: net.Dialer{Cancel: closing(100 * time.Millisecond)}},

		{name: "UDP", network: "udp", address: live("127.0.0.1")},
		{name: "UDP from an address", network: "udp4", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}}},
		{name: "UDP from a TCP address", network: "udp", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp("127.0.0.1", 0)}},
		{name: "UDP IPv6", network: "udp6", address: live("::1")},
		{name: "IP", network: "ip4:1", address: "127.0.0.1"},
		{name: "unix", network: "unix", address: filepath.Join(dir, "live")},
		{name: "unix, absent", network: "unix", address: filepath.Join(dir, "absent")},
		{name: "unixgram, absent", network: "unixgram", address: filepath.Join(dir, "absent")},
		{name: "unixpacket, wrong type", network: "unixpacket", address: filepath.Join(dir, "live")},

		{name: "Dial", dial: func(m methods, _ context.Context) (net.Conn, error) { return m.Dial("tcp", live("127.0.0.1")) }},
		{name: "DialTCP from an address", dial: dialTCP("tcp", netip.AddrPortFrom(here, 0), liveAddr)},
		{name: "DialTCP from a port", dial: dialTCP("tcp4", netip.AddrPortFrom(here, 9999), liveAddr)},
		{name: "DialTCP from any address and a port", dial: dialTCP("tcp", netip.AddrPortFrom(netip.Addr{}, 9999), liveAddr)},
		{name: "DialTCP refused", dial: dialTCP("tcp", netip.AddrPortFrom(here, 0), deadAddr)},
		{name: "DialTCP of the other family", dial: dialTCP("tcp6", netip.AddrPort{}, liveAddr)},
		{name: "DialTCP of IPv6 on tcp4", dial: dialTCP("tcp4", netip.AddrPort{}, netip.MustParseAddrPort("[::1]:40000"))},
		{name: "DialTCP on udp", dial: dialTCP("udp", netip.AddrPort{}, liveAddr)},
		{name: "DialTCP on no network", dial: dialTCP("", netip.AddrPort{}, liveAddr)},
		{name: "DialTCP ignores LocalAddr", dial: dialTCP("tcp", netip.AddrPortFrom(here, 0), liveAddr), dialer: net.Dialer{LocalAddr: tcp("192.0.2.1", 1)}},
		{name: "DialTCP canceled", dial: dialTCP("tcp", netip.AddrPortFrom(here, 0), liveAddr), ctx: canceled},
		{name: "DialUDP", dial: func(m methods, ctx context.Context) (net.Conn, error) {
			return untyped(m.DialUDP(ctx, "udp", netip.AddrPortFrom(here, 0), liveAddr))
		}},
		{name: "DialIP", dial: func(m methods, ctx context.Context) (net.Conn, error) {
			return untyped(m.DialIP(ctx, "ip4:1", netip.Addr{}, here))
		}},
		{name: "DialUnix", dial: func(m methods, ctx context.Context) (net.Conn, error) {
			return untyped(m.DialUnix(ctx, "unix", nil, &net.UnixAddr{Name: filepath.Join(dir, "live"), Net: "unix"}))
		}},
		{name: "DialUnix without an address", dial: func(m methods, ctx context.Context) (net.Conn, error) {
			return untyped(m.DialUnix(ctx, "unix", nil, nil))
		}},
	}
	for _, c := range destinationCases {
		rows = append(rows,
			difference{name: "live " + c.host, network: c.network, address: live(c.host)},
			difference{name: "dead " + c.host, network: c.network, address: dead(c.host)})
	}
	return append(rows, difference{name: "no port left", address: live("127.0.0.1"), retried: true,
		before: func(t *testing.T) { takeAllPorts(t, "127.0.0.1:"+livePort, PortRange{40001, 40003}) }})
}

// closing returns a channel that is closed in a while.
func closing(after time.Duration) <-chan struct{} {
	c := make(chan struct{})
	time.AfterFunc(after, func() { close(c) })
	return c
}

// takeAllPorts narrows the local port range to r, and connects to address from
// each port of it, until the test ends.
func takeAllPorts(t *testing.T, address string, r PortRange) {
	t.Helper()
	setLocalPorts(t, r)
	t.Cleanup(func() { setLocalPorts(t, PortRange{32768, 60999}) })
	for port := r.Low; port <= r.High; port++ {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)}}
		conn, err := d.Dial("tcp", address)
		require.NoError(t, err)
		t.Cleanup(func() { hangUp(conn) })
	}
}

// An outcome is what a caller sees of a dial.
type outcome struct {
	Conn     string
	Local    string
	Remote   string
	Options  []string
	Errors   []string
	Controls []string
	Trace    []string
	Panic    any
}

// TestDifferential dials each row with net.Dialer and with Dialer, with and
// without a hook of the caller's, and compares all that a caller can see.
func TestDifferential(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		dir := t.TempDir()
		serve(t, "tcp", ":"+livePort)
		serve(t, "unix", filepath.Join(dir, "live"))
		silence(t, 9000)
		rows := differences(dir)
		require.GreaterOrEqual(t, len(rows), 60)
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				row.compare(t)
			})
		}
		t.Logf("%d rows", len(rows))
	})
}

// compare dials with both, with and without a hook of the caller's.
func (row difference) compare(t *testing.T) {
	t.Helper()
	if row.before != nil {
		row.before(t)
	}
	for _, hooked := range []bool{false, true} {
		want := row.run(t, func(nd net.Dialer) methods { return &nd }, hooked)
		got := row.run(t, func(nd net.Dialer) methods { return like(nd) }, hooked)
		most := 10 // a busy machine may have the legs of Happy Eyeballs end in another order
		if row.raced {
			most = 1000
		}
		for tries := 0; tries < most && !assert.ObjectsAreEqual(want, got); tries++ {
			want = row.run(t, func(nd net.Dialer) methods { return &nd }, hooked)
			got = row.run(t, func(nd net.Dialer) methods { return like(nd) }, hooked)
		}
		if row.retried {
			require.Greater(t, len(got.Trace), len(want.Trace))
			got.Trace = got.Trace[:len(want.Trace)]
		}
		assert.Equal(t, want, got, "with a hook: %t", hooked)
	}
}

// silence makes a listener on the port whose backlog is full, so that it answers
// no SYN.
func silence(t *testing.T, port int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port}))
	require.NoError(t, unix.Listen(fd, 0))
	fillBacklog(t, fmt.Sprintf("127.0.0.1:%d", port))
}

// fillBacklog connects to address until nobody answers.
func fillBacklog(t *testing.T, address string) {
	t.Helper()
	d := net.Dialer{Timeout: 100 * time.Millisecond}
	for range 8 {
		conn, err := d.Dial("tcp", address)
		if err != nil {
			require.True(t, errors.Is(err, os.ErrDeadlineExceeded) || err.(net.Error).Timeout(), "%v", err)
			return
		}
		t.Cleanup(func() { hangUp(conn) })
	}
	t.Fatal("the backlog does not fill")
}

func (row difference) run(t *testing.T, build func(net.Dialer) methods, hooked bool) (o outcome) {
	t.Helper()
	var mu sync.Mutex
	over := false // but the address that lost may still be reported
	note := func(list *[]string, format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			*list = append(*list, fmt.Sprintf(format, args...))
		}
	}
	defer func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
	}()
	nd := row.dialer
	if hooked {
		inner := like(nd).callersControl()
		nd.ControlContext = func(ctx context.Context, network, address string, c syscall.RawConn) error {
			_, bounded := ctx.Deadline()
			note(&o.Controls, "%s %s %t", network, address, bounded)
			if inner == nil {
				return nil
			}
			return inner(ctx, network, address, c)
		}
	}
	ctx, cancel := context.Background(), context.CancelFunc(func() {})
	if row.ctx != nil {
		ctx, cancel = row.ctx()
	}
	defer cancel()
	if ctx != nil {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			DNSStart:     func(i httptrace.DNSStartInfo) { note(&o.Trace, "DNSStart %v", i) },
			DNSDone:      func(i httptrace.DNSDoneInfo) { note(&o.Trace, "DNSDone %v %v", i.Addrs, i.Err) },
			ConnectStart: func(network, addr string) { note(&o.Trace, "ConnectStart %s %s", network, addr) },
			ConnectDone:  func(network, addr string, err error) { note(&o.Trace, "ConnectDone %s %s %v", network, addr, err) },
		})
	}

	defer func() { o.Panic = recover() }()
	m := build(nd)
	if row.mptcp {
		m.SetMultipathTCP(true)
		require.True(t, m.MultipathTCP())
	}
	dial := row.dial
	if dial == nil {
		network := row.network
		switch network {
		case "":
			network = "tcp"
		case "-":
			network = ""
		}
		dial = func(m methods, ctx context.Context) (net.Conn, error) {
			return m.DialContext(ctx, network, row.address)
		}
	}
	conn, err := dial(m, ctx)
	if err != nil {
		assert.Nil(t, conn)
		o.Errors = chain(err)
		return o
	}
	defer hangUp(conn)
	o.Conn = fmt.Sprintf("%T", conn)
	o.Local, o.Remote = fmt.Sprintf("%T", conn.LocalAddr()), fmt.Sprint(conn.RemoteAddr())
	if local, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		o.Local = local.IP.String()
	}
	o.Options = options(t, conn)
	return o
}

// chain tells everything of an error and of those it wraps.
//
// A connect that runs into the deadline fails with one of two errors in net, as
// the poller or the context is the first to tell it; they count as one here.
func chain(err error) []string {
	var links []string
	for _, target := range []error{context.Canceled, syscall.ECONNREFUSED, syscall.EADDRNOTAVAIL} {
		links = append(links, fmt.Sprintf("is %v: %t", target, errors.Is(err, target)))
	}
	late := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
	links = append(links, fmt.Sprintf("is late: %t", late))
	for ; err != nil; err = errors.Unwrap(err) {
		link := fmt.Sprintf("%T %q", err, err)
		if late && errors.Unwrap(err) == nil {
			link = fmt.Sprintf("%q", err)
		}
		if op, ok := err.(*net.OpError); ok {
			link += fmt.Sprintf(" op %q net %q source %T %v addr %T %v", op.Op, op.Net, op.Source, op.Source, op.Addr, op.Addr)
		}
		if netErr, ok := err.(net.Error); ok {
			link += fmt.Sprintf(" timeout %t temporary %t", netErr.Timeout(), netErr.Temporary()) //nolint:staticcheck // Temporary is compared because callers still use it.
		}
		links = append(links, link)
	}
	return links
}

// options reads the socket's settings.
func options(t *testing.T, conn net.Conn) []string {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	var list []string
	require.NoError(t, raw.Control(func(fd uintptr) {
		for _, o := range []struct {
			name          string
			level, option int
		}{
			{"SO_DOMAIN", unix.SOL_SOCKET, unix.SO_DOMAIN},
			{"SO_TYPE", unix.SOL_SOCKET, unix.SO_TYPE},
			{"SO_PROTOCOL", unix.SOL_SOCKET, unix.SO_PROTOCOL},
			{"SO_ERROR", unix.SOL_SOCKET, unix.SO_ERROR},
			{"SO_LINGER", unix.SOL_SOCKET, unix.SO_LINGER},
			{"SO_REUSEADDR", unix.SOL_SOCKET, unix.SO_REUSEADDR},
			{"SO_REUSEPORT", unix.SOL_SOCKET, unix.SO_REUSEPORT},
			{"SO_BROADCAST", unix.SOL_SOCKET, unix.SO_BROADCAST},
			{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE},
			{"TCP_KEEPIDLE", unix.SOL_TCP, unix.TCP_KEEPIDLE},
			{"TCP_KEEPINTVL", unix.SOL_TCP, unix.TCP_KEEPINTVL},
			{"TCP_KEEPCNT", unix.SOL_TCP, unix.TCP_KEEPCNT},
			{"TCP_NODELAY", unix.SOL_TCP, unix.TCP_NODELAY},
			{"IPV6_V6ONLY", unix.SOL_IPV6, unix.IPV6_V6ONLY},
		} {
			value, err := unix.GetsockoptInt(int(fd), o.level, o.option)
			list = append(list, fmt.Sprintf("%s %d %v", o.name, value, err))
		}
		for _, cmd := range []int{unix.F_GETFL, unix.F_GETFD} {
			flags, err := unix.FcntlInt(fd, cmd, 0)
			list = append(list, fmt.Sprintf("fcntl %d: %#x %v", cmd, flags, err))
		}
	}))
	if tcp, ok := conn.(*net.TCPConn); ok {
		multipath, err := tcp.MultipathTCP()
		list = append(list, fmt.Sprintf("multipath %t %v", multipath, err))
	}
	return list
}
