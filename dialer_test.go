package safedial

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestFieldsAndMethods compares Dialer to net.Dialer, of whatever Go release the
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
	assert.True(t, new(Dialer).NetDialer().MultipathTCP(), "GODEBUG changes the default")
	d.SetMultipathTCP(false)
	assert.False(t, d.MultipathTCP(), "what was set is stronger than GODEBUG")
}

// TestEnd is about when Timeout and Deadline end a dial.
func TestEnd(t *testing.T) {
	synctest.Test(t, testEnd) // in which the time stands still
}

func testEnd(t *testing.T) {
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
		assert.Equal(t, c.want, c.d.end(), name)
	}
}

// TestHiddenErrors: net must not recognize EADDRNOTAVAIL, and nobody else may see a
// difference.
func TestHiddenErrors(t *testing.T) {
	bare := os.NewSyscallError("connect", errAddrNotAvailable)
	hidden := hideFromNet(bare)
	assert.EqualError(t, hidden, bare.Error())
	assert.ErrorIs(t, hidden, errAddrNotAvailable)
	assert.NotEqual(t, errAddrNotAvailable, errors.Unwrap(hidden), "net compares it with ==")
	for hidden, want := range map[error]error{hidden: bare, &hookError{err: ErrSelfConnect}: ErrSelfConnect} {
		was, got := original(hidden)
		assert.Equal(t, want, got)
		assert.True(t, was, "%v", hidden)
	}
	callers := fmt.Errorf("the caller's: %w", hidden)
	for _, other := range []error{
		nil, errors.New("x"), bare, os.NewSyscallError("connect", connRefused[0]), ErrSelfConnect,
		callers,
	} {
		was, got := original(other)
		assert.Equal(t, other, got)
		assert.False(t, was, "%v", other)
	}
	for _, other := range []error{nil, ErrSelfConnect, callers, os.NewSyscallError("connect", connRefused[0])} {
		assert.Equal(t, other, hideFromNet(other))
	}
}

func TestIsNoPort(t *testing.T) {
	for _, err := range []error{
		os.NewSyscallError("connect", errAddrNotAvailable),
		os.NewSyscallError("connect", errAgain),
		os.NewSyscallError("bind", errAddrInUse),
		hideFromNet(os.NewSyscallError("connect", errAddrNotAvailable)),
	} {
		assert.True(t, isNoPort(err), "%v", err)
		assert.False(t, isNoPort(fmt.Errorf("the caller's: %w", err)))
	}
	for _, err := range []error{
		nil,
		(*os.SyscallError)(nil),
		errAddrNotAvailable,
		os.NewSyscallError("bind", errAddrNotAvailable), // a LocalAddr that is not the host's
		os.NewSyscallError("connect", errAddrInUse),
		os.NewSyscallError("connect", connRefused[0]),
	} {
		assert.False(t, isNoPort(err), "%#v", err)
	}
}

// TestPause: the first two retries follow immediately, the later ones after longer and
// longer pauses, but never past the end of the context.
func TestPause(t *testing.T) {
	const ms = time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		for i, want := range []time.Duration{
			0, 0, ms, 2 * ms, 4 * ms, 8 * ms, 16 * ms, 32 * ms, 64 * ms, 128 * ms, 128 * ms, 128 * ms,
		} {
			start := time.Now()
			assert.NoError(t, pause(t.Context(), i))
			assert.Equal(t, want, time.Since(start), "retry %d", i)
		}
		start := time.Now()
		assert.NoError(t, pause(t.Context(), math.MaxInt))
		assert.Equal(t, 128*ms, time.Since(start))
	})
	for _, retries := range []int{0, 1, 1000} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*ms)
		defer cancel()
		if retries < immediateRetries {
			<-ctx.Done()
		}
		err := pause(ctx, retries)
		assert.EqualError(t, err, "i/o timeout")
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	}
}

func TestParseTarget(t *testing.T) {
	for target, want := range map[string][2]string{
		"127.0.0.1:80":                {"tcp", "127.0.0.1:80"},
		"[::1]:80":                    {"tcp", "[::1]:80"},
		"[fe80::1%eth0]:80":           {"tcp", "[fe80::1%eth0]:80"},
		"localhost:http":              {"tcp", "localhost:http"},
		":80":                         {"tcp", ":80"},
		"":                            {"tcp", ""},
		"name":                        {"tcp", "name"},
		"unix.:80":                    {"tcp", "unix.:80"},
		"unix":                        {"unix", ""},
		"unix:relative":               {"unix", "relative"},
		"unix:relative/path":          {"unix", "relative/path"},
		"unix:/absolute":              {"unix", "/absolute"},
		"unix:///absolute":            {"unix", "/absolute"},
		"unix:///with%20percent:8080": {"unix", "/with%20percent:8080"},
		"unix:@abstract":              {"unix", "@abstract"},
		"unix-abstract:name":          {"unix", "@name"},
		"unix-abstract:///name":       {"unix", "@/name"},
		"\x00name":                    {"unix", "\x00name"},
		"\x00name:80":                 {"unix", "\x00name:80"},
	} {
		network, address := parseTarget(target)
		assert.Equal(t, want, [2]string{network, address}, "%q", target)
	}
}

// FuzzTarget checks what a target names: TCP as it is, or a path that is the
// target's own end.
func FuzzTarget(f *testing.F) {
	for _, seed := range []string{
		"", "127.0.0.1:80", "[::1]:80", "unix:a", "unix:///a", "unix://", "unix:", "unix",
		"unix-abstract:a", "\x00a", "unix:@a", "unix:%20", "unix.:80", ":unix:",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		network, address := parseTarget(target)
		switch network {
		case "tcp":
			assert.Equal(t, target, address)
			assert.False(
				t,
				strings.HasPrefix(target, "unix:") || strings.HasPrefix(target, "unix-abstract:") ||
					strings.HasPrefix(target, "\x00"),
			)
		case "unix":
			if rest, abstract := strings.CutPrefix(address, "@"); abstract && strings.HasPrefix(target, "unix-abstract") {
				address = rest
			}
			assert.True(t, strings.HasSuffix(target, address), "%q of %q", address, target)
		default:
			t.Errorf("network %q", network)
		}
	})
}

// TestDialedAddressOfError: an error found in net's result names what was dialed.
func TestDialedAddressOfError(t *testing.T) {
	elsewhere := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80}
	for _, c := range []struct{ network, address, want string }{
		{"tcp", "192.0.2.1:80", "192.0.2.1:80"},
		{"tcp", "192.0.2.1:http", "192.0.2.1:80"},
		{"tcp", ":80", ":80"},
		{"tcp", "[::]:80", "[::]:80"},
		{"tcp6", "[fe80::1%lo]:80", "[fe80::1%lo]:80"},
		{"udp", "10.96.0.1:80", "10.96.0.1:80"},
		{"tcp", "name.test:80", "127.0.0.1:80"},
		{"tcp", "nonsense", "127.0.0.1:80"},
	} {
		target := newTarget(c.network, c.address, nil)
		assert.Equal(t, c.want, target.remoteAddr(elsewhere).String())
	}
}

// TestMalformedAddress: net refuses it, whatever LocalAddr is.
func TestMalformedAddress(t *testing.T) {
	for _, ip := range []net.IP{nil, net.IPv4zero, net.IPv4(127, 0, 0, 1), net.IPv6zero, net.IPv6loopback} {
		for _, address := range []string{"", "foo", "127.0.0.1", "::1", "[::1]", "0.0.0.0", "127.0.0.1:1:2"} {
			local := &net.TCPAddr{IP: ip}
			_, want := (&net.Dialer{LocalAddr: local}).Dial("tcp", address)
			_, err := (&Dialer{LocalAddr: local}).Dial("tcp", address)
			assert.Equal(t, want, err, "%q from %v", address, local)
		}
	}
}
