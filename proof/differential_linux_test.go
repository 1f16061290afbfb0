package proof

import (
	"context"
	"fmt"
	"net"
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

// fromNet returns a Dialer with the exported fields of nd.
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

// A parityCase is a dial that both dialers must do alike.
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
	needsIPv6        bool             // without it net.Dialer fails to make an IPv6 socket, which a Dialer does not try
}

// closing returns a channel that is closed in a while.
func closing(after time.Duration) <-chan struct{} {
	c := make(chan struct{})
	time.AfterFunc(after, func() { close(c) })
	return c
}

// TestDifferential dials each row with net.Dialer and with Dialer, with and
// without a hook of the caller's, and compares all that a caller can see.
func TestDifferential(t *testing.T) { isolated(t, compareAll) }

// TestDifferentialWithoutPortRange is the same on a kernel before 6.3.
func TestDifferentialWithoutPortRange(t *testing.T) {
	isolated(t, compareAll, unix.IP_LOCAL_PORT_RANGE)
}

func compareAll(t *testing.T) {
	nstest.Hosts(t, nstest.DualLocalhost)
	dir := t.TempDir()
	nstest.Serve(t, "tcp", ":"+livePort)
	nstest.Serve(t, "unix", filepath.Join(dir, "live"))
	nstest.FullBacklog(t, 9000)
	rows := slices.DeleteFunc(parityCases(dir), func(row parityCase) bool { return row.needsIPv6 && !nstest.HasIPv6() })
	require.GreaterOrEqual(t, len(rows), 60)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) { row.compare(t) })
	}
	t.Logf("%d rows", len(rows))
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
			assert.Equal(
				t,
				want,
				got,
				"row %q, with a hook: %t\nnet of %s did %+v\n%s did %+v\nIf net has changed, safedial has to follow.",
				row.name,
				hooked,
				runtime.Version(),
				want,
				c.name,
				got,
			)
		}
	}
}

var (
	family = regexp.MustCompile(`\b(tcp|udp)[46]`)
	source = regexp.MustCompile(`source \S+ \S+ | \S+->|\*safedial\.hookError.*`)
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

// calledOnce removes the calls of the caller's hook for more sockets: net makes three if no
// port is left, and safedial one.
func calledOnce(o *outcome) { o.Controls = slices.Compact(o.Controls) }

// uncalled removes the calls of the caller's hook.
func uncalled(o *outcome) { o.Controls = nil }

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
		nd.Cancel = closing(row.cancelAfter) //nolint:staticcheck // SA1019: net.Dialer has it too
	}
	if hooked {
		noteControls(&nd, func(format string, args ...any) { note(&o.Controls, format, args...) })
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
		if o.Local = local.IP.String(); local.Port == 9999 { // the one that rows name
			o.Local = local.String()
		}
	}
	o.Options = options(t, conn)
	return o
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

// noteControls notes each call of nd's hook, or of one that does nothing else.
func noteControls(nd *net.Dialer, note func(format string, args ...any)) {
	inner, control := nd.ControlContext, nd.Control
	nd.ControlContext = func(ctx context.Context, network, address string, c syscall.RawConn) error {
		_, bounded := ctx.Deadline()
		note("%s %s %t", network, address, bounded)
		switch {
		case inner != nil:
			return inner(ctx, network, address, c)
		case control != nil:
			return control(network, address, c)
		}
		return nil
	}
}
