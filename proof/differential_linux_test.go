package proof

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
	"regexp"
	"runtime"
	"slices"
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

// methods is what net.Dialer and Dialer have in common.
type dialer interface {
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
	_ dialer = (*net.Dialer)(nil)
	_ dialer = (*safedial.Dialer)(nil)
)

// like returns a Dialer with the exported fields of nd.
func fromNet(nd net.Dialer) *safedial.Dialer {
	d := new(safedial.Dialer)
	from, to := reflect.ValueOf(nd), reflect.ValueOf(d).Elem()
	for i := range from.NumField() {
		if field := from.Type().Field(i); field.IsExported() {
			to.FieldByName(field.Name).Set(from.Field(i))
		}
	}
	return d
}

// A difference is a dial that both dialers must do alike.
type parityCase struct {
	name             string
	network, address string
	dialer           net.Dialer
	mptcp            bool
	ctx              func() (context.Context, context.CancelFunc)
	dial             func(m dialer, ctx context.Context) (net.Conn, error) // default: DialContext
	before           func(t *testing.T)
	raced            bool             // net gives one of two outcomes, by chance
	but              func(o *outcome) // removes what is documented to differ
	cancelAfter      time.Duration    // sets Cancel; 0: not
}

// closing returns a channel that is closed in a while.
func closing(after time.Duration) <-chan struct{} {
	c := make(chan struct{})
	time.AfterFunc(after, func() { close(c) })
	return c
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
		nstest.Hosts(t, nstest.DualLocalhost)
		dir := t.TempDir()
		nstest.Serve(t, "tcp", ":"+livePort)
		nstest.Serve(t, "unix", filepath.Join(dir, "live"))
		nstest.FullBacklog(t, 9000)
		rows := parityCases(dir)
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
func (row parityCase) compare(t *testing.T) {
	t.Helper()
	if row.before != nil {
		row.before(t)
	}
	for _, hooked := range []bool{false, true} {
		for _, c := range []struct {
			name  string
			build func(net.Dialer) dialer
		}{
			{"safedial.Dialer", func(nd net.Dialer) dialer { return fromNet(nd) }},
			{"its NetDialer", func(nd net.Dialer) dialer { return fromNet(nd).NetDialer() }},
		} {
			viaNet := c.name == "its NetDialer"
			if viaNet && row.dial != nil {
				continue // with a laddr it fails, which is documented
			}
			most := 10 // a busy machine may have the legs of Happy Eyeballs end in another order
			if row.raced {
				most = 1000
			}
			var want, got outcome
			for range most {
				want = row.run(t, func(nd net.Dialer) dialer { return &nd }, hooked)
				got = row.run(t, c.build, hooked)
				row.forgive(&want, viaNet)
				row.forgive(&got, viaNet)
				if assert.ObjectsAreEqual(want, got) {
					break
				}
			}
			assert.Equal(t, want, got, "row %q, with a hook: %t\nnet of %s did %+v\n%s did %+v\nIf net has changed, safedial has to follow.",
				row.name, hooked, runtime.Version(), want, c.name, got)
		}
	}
}

var (
	family = regexp.MustCompile(`\b(tcp|udp)[46]`)
	source = regexp.MustCompile(`source \S+ \S+ | \S+->|\*fmt.wrapError.*`)
)

// forgive removes from o what is documented to differ.
func (row parityCase) forgive(o *outcome, viaNet bool) {
	from := reflect.ValueOf(row.dialer.LocalAddr)
	if row.dial != nil {
		o.Trace = nil // DialTCP and DialUDP report to a trace
	}
	if row.but != nil {
		row.but(o)
	}
	if from.IsValid() && !from.IsNil() {
		// The network says the family, and a trace's errors do not say the source.
		o.Trace = slices.DeleteFunc(o.Trace, func(line string) bool { return strings.HasPrefix(line, "DNSDone") })
		for i := range o.Trace {
			o.Trace[i] = source.ReplaceAllString(family.ReplaceAllString(o.Trace[i], "$1"), " ")
		}
		o.Controls = slices.Compact(o.Controls) // net repeats an EADDRNOTAVAIL of bind(2)
		if viaNet {
			o.Controls, o.Trace = nil, nil // of both families
		}
	}
	for i, line := range o.Errors {
		if !viaNet {
			break
		}
		o.Errors[i] = source.ReplaceAllString(line, " ")
		if strings.HasPrefix(line, "*net.AddrError") { // the hook finds it, for an address
			o.Errors = o.Errors[i:]
			break
		}
	}
	o.Errors = slices.DeleteFunc(o.Errors, func(line string) bool { return viaNet && line == " " })
}

// uncalled removes the calls of the caller's hook.
func uncalled(o *outcome) { o.Controls = nil }

// oneFamily removes what shows that "::" is dialed on "tcp6", and an address of the
// wrong family not at all.
func oneFamily(o *outcome) {
	uncalled(o)
	o.Options = slices.DeleteFunc(o.Options, func(line string) bool { return strings.HasPrefix(line, "IPV6_V6ONLY") })
}

// asIPv4 removes what tells an IPv6 socket from an IPv4 one.
func asIPv4(o *outcome) {
	o.Options = slices.DeleteFunc(o.Options, func(line string) bool {
		return strings.HasPrefix(line, "SO_DOMAIN") || strings.HasPrefix(line, "IPV6_V6ONLY")
	})
	for i := range o.Controls {
		o.Controls[i] = family.ReplaceAllString(o.Controls[i], "$1")
	}
}

func (row parityCase) run(t *testing.T, build func(net.Dialer) dialer, hooked bool) (o outcome) {
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
	if row.cancelAfter > 0 {
		nd.Cancel = closing(row.cancelAfter) //lint:ignore SA1019 net.Dialer has it too
	}
	if hooked {
		inner := nd.ControlContext
		if control := nd.Control; inner == nil && control != nil {
			inner = func(_ context.Context, network, address string, c syscall.RawConn) error {
				return control(network, address, c)
			}
		}
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
		ctx = withTrace(ctx, func(format string, args ...any) { note(&o.Trace, format, args...) })
	}

	defer func() { o.Panic = recover() }()
	m := build(nd)
	if row.mptcp {
		m.SetMultipathTCP(true)
		require.True(t, m.MultipathTCP())
	}
	conn, err := row.dials()(m, ctx)
	if err != nil {
		assert.Nil(t, conn)
		o.Errors = chain(err)
		return o
	}
	defer nstest.Reset(conn)
	o.Conn = fmt.Sprintf("%T", conn)
	o.Local, o.Remote = fmt.Sprintf("%T", conn.LocalAddr()), fmt.Sprint(conn.RemoteAddr())
	if local, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		o.Local = local.IP.String()
	}
	o.Options = options(t, conn)
	return o
}

func withTrace(ctx context.Context, note func(format string, args ...any)) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart:     func(i httptrace.DNSStartInfo) { note("DNSStart %v", i) },
		DNSDone:      func(i httptrace.DNSDoneInfo) { note("DNSDone %v %v", i.Addrs, i.Err) },
		ConnectStart: func(network, addr string) { note("ConnectStart %s %s", network, addr) },
		ConnectDone:  func(network, addr string, err error) { note("ConnectDone %s %s %v", network, addr, err) },
	})
}

// dials returns the dial of the row.
func (row parityCase) dials() func(dialer, context.Context) (net.Conn, error) {
	if row.dial != nil {
		return row.dial
	}
	network := row.network
	switch network {
	case "":
		network = "tcp"
	case "-":
		network = ""
	}
	return func(m dialer, ctx context.Context) (net.Conn, error) {
		return m.DialContext(ctx, network, row.address)
	}
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
		if op, ok := any(err).(*net.OpError); ok { // this link, not one behind it
			link += fmt.Sprintf(" op %q net %q source %T %v addr %T %v", op.Op, op.Net, op.Source, op.Source, op.Addr, op.Addr)
		}
		if netErr, ok := any(err).(net.Error); ok {
			//lint:ignore SA1019 callers still use Temporary, so it is compared
			link += fmt.Sprintf(" timeout %t temporary %t", netErr.Timeout(), netErr.Temporary())
		}
		links = append(links, link)
	}
	return links
}

var comparedOptions = []struct {
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
}

// options reads the socket's settings.
func options(t *testing.T, conn net.Conn) []string {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	var list []string
	require.NoError(t, raw.Control(func(fd uintptr) {
		for _, o := range comparedOptions {
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
