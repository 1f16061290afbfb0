package safedial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestFieldsAndMethods holds Dialer to net.Dialer, of whatever Go release the
// tests are built with.
func TestFieldsAndMethods(t *testing.T) {
	want, got := reflect.TypeFor[net.Dialer](), reflect.TypeFor[Dialer]()
	for i := range want.NumField() {
		field := want.Field(i)
		if !field.IsExported() {
			continue
		}
		same, ok := got.FieldByName(field.Name)
		if assert.True(t, ok, "no field %s", field.Name) {
			assert.Equal(t, field.Type, same.Type, field.Name)
			assert.Equal(t, []int{same.Index[0]}, same.Index, "%s is not a field of Dialer's own", field.Name)
		}
	}
	want, got = reflect.TypeFor[*net.Dialer](), reflect.TypeFor[*Dialer]()
	for i := range want.NumMethod() {
		method := want.Method(i)
		same, ok := got.MethodByName(method.Name)
		if assert.True(t, ok, "no method %s", method.Name) {
			assert.Equal(t, signature(method), signature(same), method.Name)
		}
	}
}

// signature returns a method's type without its receiver.
func signature(m reflect.Method) string {
	_, rest, _ := strings.Cut(m.Type.String(), "Dialer")
	return strings.TrimPrefix(rest, ", ")
}

func TestSettingsReachNet(t *testing.T) {
	d := Dialer{
		Timeout:         1,
		Deadline:        time.Unix(2, 0),
		LocalAddr:       &net.UDPAddr{Port: 3},
		DualStack:       true,
		FallbackDelay:   4,
		KeepAlive:       5,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 6},
		Resolver:        new(net.Resolver),
		Cancel:          make(chan struct{}),
		Control:         func(string, string, syscall.RawConn) error { return nil },
		ControlContext:  func(context.Context, string, string, syscall.RawConn) error { return nil },
	}
	nd := reflect.ValueOf(d.settings())
	for i := range nd.NumField() {
		field := nd.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		want, got := reflect.ValueOf(d).FieldByName(field.Name), nd.Field(i)
		require.False(t, want.IsZero(), "the test does not set %s", field.Name)
		if field.Type.Kind() == reflect.Func {
			assert.Equal(t, want.Pointer(), got.Pointer(), field.Name)
		} else {
			assert.Equal(t, want.Interface(), got.Interface(), field.Name)
		}
	}
}

func TestMultipathTCP(t *testing.T) {
	var d Dialer
	assert.Equal(t, new(net.Dialer).MultipathTCP(), d.MultipathTCP(), "net's default")
	for _, use := range []bool{true, false, true} {
		d.SetMultipathTCP(use)
		assert.Equal(t, use, d.MultipathTCP())
		assert.Equal(t, use, d.NetDialer().MultipathTCP())
	}
	t.Setenv("GODEBUG", "multipathtcp=1")
	assert.True(t, d.MultipathTCP())
	assert.True(t, new(Dialer).MultipathTCP(), "GODEBUG changes the default")
	d.SetMultipathTCP(false)
	assert.False(t, d.MultipathTCP(), "what was set is stronger than GODEBUG")
}

func TestEveryWayIn(t *testing.T) {
	l := serve(t, "tcp", "127.0.0.1:0")
	address, tcpAddr := l.Addr().String(), l.Addr().(*net.TCPAddr)
	ctx := t.Context()
	var d Dialer
	for name, dial := range map[string]func() (net.Conn, error){
		"Dial":                  func() (net.Conn, error) { return Dial("tcp", address) },
		"DialTimeout":           func() (net.Conn, error) { return DialTimeout("tcp", address, time.Minute) },
		"DialContext":           func() (net.Conn, error) { return DialContext(ctx, "tcp", address) },
		"DialTCP":               func() (net.Conn, error) { return untyped(DialTCP("tcp", nil, tcpAddr)) },
		"DialTCP from anywhere": func() (net.Conn, error) { return untyped(DialTCP("tcp4", &net.TCPAddr{}, tcpAddr)) },
		"Dialer.Dial":           func() (net.Conn, error) { return d.Dial("tcp", address) },
		"Dialer.DialContext":    func() (net.Conn, error) { return d.DialContext(ctx, "tcp4", address) },
		"Dialer.DialTCP": func() (net.Conn, error) {
			return untyped(d.DialTCP(ctx, "tcp", netip.AddrPort{}, tcpAddr.AddrPort()))
		},
		"NetDialer": func() (net.Conn, error) { return d.NetDialer().DialContext(ctx, "tcp", address) },
		"NetDialer from an address": func() (net.Conn, error) {
			from := Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}
			return from.NetDialer().Dial("tcp", address)
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := dial()
			require.NoError(t, err)
			assert.IsType(t, (*net.TCPConn)(nil), conn)
			assertReal(t, conn)
		})
	}
}

func TestDialTimeoutExpires(t *testing.T) {
	_, err := DialTimeout("tcp", "127.0.0.1:9", -1)
	var netErr net.Error
	require.ErrorAs(t, err, &netErr)
	assert.True(t, netErr.Timeout())
}

// TestDialTCPBadInput has net's own errors for what net.DialTCP refuses, and for what
// is refused at an address without an IP.
func TestDialTCPBadInput(t *testing.T) {
	here := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}
	for name, c := range map[string]struct {
		network      string
		laddr, raddr *net.TCPAddr
	}{
		"no remote address":         {"tcp", nil, nil},
		"no remote, but a local":    {"tcp", here, nil},
		"unknown network":           {"udp", nil, here},
		"no network":                {"", nil, here},
		"IP of no length":           {"tcp", nil, &net.TCPAddr{IP: net.IP{1, 2, 3}, Port: 9}},
		"local IP of no length":     {"tcp", &net.TCPAddr{IP: net.IP{1, 2, 3}}, here},
		"IPv6 on tcp4":              {"tcp4", nil, &net.TCPAddr{IP: net.IPv6loopback, Port: 9}},
		"no network, local address": {"", here, here},
		"no remote IP":              {"tcp", nil, &net.TCPAddr{Port: 9}},
		"no IPs":                    {"tcp", &net.TCPAddr{}, &net.TCPAddr{Port: 9}},
		"no local IP":               {"tcp4", &net.TCPAddr{}, here},
	} {
		t.Run(name, func(t *testing.T) {
			want, wantErr := net.DialTCP(c.network, c.laddr, c.raddr)
			require.Nil(t, want)
			got, err := DialTCP(c.network, c.laddr, c.raddr)
			assert.Nil(t, got)
			require.Error(t, err)
			assert.Equal(t, wantErr, err)
		})
	}
}

// TestInvalidAddresses holds DialTCP, DialUDP and DialIP to net's functions of these
// names with nil for each address that is not valid: from Go 1.27 on net.Dialer's
// methods do as much. Each tries one address.
func TestInvalidAddresses(t *testing.T) {
	local := []netip.AddrPort{{}, netip.AddrPortFrom(netip.Addr{}, 9999), netip.MustParseAddrPort("127.0.0.1:0")}
	remote := []netip.AddrPort{
		{}, netip.AddrPortFrom(netip.Addr{}, 9),
		netip.MustParseAddrPort("127.0.0.1:9"), netip.MustParseAddrPort("0.0.0.0:9"), netip.MustParseAddrPort("[::ffff:127.0.0.1]:9"),
		netip.MustParseAddrPort("[::1]:9"), netip.MustParseAddrPort("[::]:9"),
	}
	for name, dials := range map[string]struct {
		networks []string
		net      func(network string, laddr, raddr netip.AddrPort) (net.Conn, error)
		ours     func(d *Dialer, network string, laddr, raddr netip.AddrPort) (net.Conn, error)
	}{
		"TCP": {
			[]string{"tcp", "tcp4", "tcp6", "udp", ""},
			func(network string, laddr, raddr netip.AddrPort) (net.Conn, error) {
				return untyped(net.DialTCP(network, validOrNil(laddr), validOrNil(raddr)))
			},
			func(d *Dialer, network string, laddr, raddr netip.AddrPort) (net.Conn, error) {
				return untyped(d.DialTCP(t.Context(), network, laddr, raddr))
			},
		},
		"UDP": {
			[]string{"udp", "udp4", "udp6", "tcp", ""},
			func(network string, laddr, raddr netip.AddrPort) (net.Conn, error) {
				return untyped(net.DialUDP(network, (*net.UDPAddr)(validOrNil(laddr)), (*net.UDPAddr)(validOrNil(raddr))))
			},
			func(d *Dialer, network string, laddr, raddr netip.AddrPort) (net.Conn, error) {
				return untyped(d.DialUDP(t.Context(), network, laddr, raddr))
			},
		},
		"IP": {
			[]string{"ip:1", "ip4:1", "ip6:1", "ip", "tcp", ""},
			func(network string, laddr, raddr netip.AddrPort) (net.Conn, error) {
				return untyped(net.DialIP(network, ipOrNil(laddr), ipOrNil(raddr)))
			},
			func(d *Dialer, network string, laddr, raddr netip.AddrPort) (net.Conn, error) {
				return untyped(d.DialIP(t.Context(), network, laddr.Addr(), raddr.Addr()))
			},
		},
	} {
		for _, network := range dials.networks {
			for _, laddr := range local {
				for _, raddr := range remote {
					t.Run(fmt.Sprintf("%s on %q from %s to %s", name, network, laddr, raddr), func(t *testing.T) {
						var tried []string
						d := Dialer{MaxRetries: -1, Control: func(_, address string, _ syscall.RawConn) error {
							tried = append(tried, address)
							return nil
						}}
						want, wantErr := dials.net(network, laddr, raddr)
						got, err := dials.ours(&d, network, laddr, raddr)
						assert.Equal(t, wantErr, err, "net of %s: %v\nsafedial: %v", runtime.Version(), wantErr, err)
						assert.Equal(t, peer(want), peer(got), "the peer")
						assert.LessOrEqual(t, len(slices.Compact(tried)), 1, "%v", tried)
					})
				}
			}
		}
	}
}

// peer returns where conn, unless nil, leads to, and closes it.
func peer(conn net.Conn) string {
	if conn == nil {
		return ""
	}
	conn.Close()
	return conn.RemoteAddr().String()
}

func validOrNil(ap netip.AddrPort) *net.TCPAddr {
	if !ap.IsValid() {
		return nil
	}
	return net.TCPAddrFromAddrPort(ap)
}

func ipOrNil(ap netip.AddrPort) *net.IPAddr {
	if !ap.IsValid() {
		return nil
	}
	return &net.IPAddr{IP: ap.Addr().AsSlice()}
}

func TestMaxRetries(t *testing.T) {
	for set, want := range map[int]int{0: 2, 1: 1, 7: 7, -1: 0, -100: 0} {
		d := Dialer{MaxRetries: set}
		assert.Equal(t, want, d.retryPolicy().max, "MaxRetries %d", set)
	}
}

// TestDeadline is about when Timeout and Deadline end a dial.
func TestDeadline(t *testing.T) {
	now := time.Now()
	late := now.Add(2 * time.Hour)
	for name, c := range map[string]struct {
		d    Dialer
		want time.Time
	}{
		"nothing":                 {Dialer{}, time.Time{}},
		"deadline":                {Dialer{Deadline: late}, late},
		"timeout":                 {Dialer{Timeout: time.Hour}, now.Add(time.Hour)},
		"negative timeout":        {Dialer{Timeout: -1, Deadline: late}, now.Add(-1)},
		"timeout before deadline": {Dialer{Timeout: time.Hour, Deadline: late}, now.Add(time.Hour)},
		"deadline before timeout": {Dialer{Timeout: 3 * time.Hour, Deadline: late}, late},
	} {
		assert.Equal(t, c.want, c.d.deadline(now), name)
	}
}

// TestCancelLeavesNoGoroutine uses the deprecated channel, on which net.Dialer
// of Go 1.26 leaves a goroutine waiting (https://go.dev/issue/78531).
func TestCancelLeavesNoGoroutine(t *testing.T) {
	l := serve(t, "tcp", "127.0.0.1:0")
	d := Dialer{Cancel: make(chan struct{}), Timeout: time.Minute}
	before := runtime.NumGoroutine()
	for range 50 {
		conn, err := d.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		assertReal(t, conn)
	}
	assert.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.LessOrEqual(c, runtime.NumGoroutine(), before+5)
	}, 10*time.Second, time.Millisecond)
}

// TestHiddenErrors: net must not recognize EADDRNOTAVAIL, and nobody else may see a
// difference.
func TestHiddenErrors(t *testing.T) {
	bare := os.NewSyscallError("connect", errAddrNotAvailable)
	hidden := hideFromNet(bare)
	assert.True(t, isHidden(hidden))
	assert.EqualError(t, hidden, bare.Error())
	assert.ErrorIs(t, hidden, errAddrNotAvailable)
	assert.NotEqual(t, errAddrNotAvailable, errors.Unwrap(hidden), "net compares it with ==")
	assert.Equal(t, bare, unhide(hidden))
	assert.Equal(t, ErrSelfConnect, unhide(errNotUndone))
	for _, other := range []error{nil, errors.New("x"), bare, os.NewSyscallError("connect", connRefused[0]), ErrSelfConnect} {
		assert.False(t, isHidden(other))
		assert.Equal(t, other, unhide(other))
		if !errors.Is(other, bare) {
			assert.Equal(t, other, hideFromNet(other))
		}
	}
}

func TestIsConnectAddrNotAvail(t *testing.T) {
	bare := os.NewSyscallError("connect", errAddrNotAvailable)
	assert.True(t, isConnectAddrNotAvail(bare))
	assert.True(t, isConnectAddrNotAvail(&net.OpError{Err: hideFromNet(bare)}))
	assert.False(t, isConnectAddrNotAvail(os.NewSyscallError("bind", errAddrNotAvailable)), "a foreign LocalAddr")
	assert.False(t, isConnectAddrNotAvail(os.NewSyscallError("connect", connRefused[0])))
	assert.False(t, isConnectAddrNotAvail(errAddrNotAvailable))
	assert.False(t, isConnectAddrNotAvail(nil))
}

func opError(t *testing.T, err error) *net.OpError {
	t.Helper()
	op, ok := errors.AsType[*net.OpError](err)
	require.True(t, ok, "%v", err)
	return op
}

// untyped returns conn as a net.Conn, which is nil with an error.
func untyped[C net.Conn](conn C, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// noPort reports whether err is that no local port was found, in any way.
func noPort(err error) bool {
	return isConnectAddrNotAvail(err) || isBindAddrInUse(err) || isConnectAgain(err)
}

// orUnspecified returns addr, with the unspecified address if it has no IP.
func orUnspecified(addr *net.TCPAddr) netip.AddrPort {
	if addr != nil && len(addr.IP) == 0 {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(addr.Port))
	}
	return addr.AddrPort()
}
