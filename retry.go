package safedial

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	defaultRetries = 2

	firstPause   = time.Millisecond
	pauseDoubles = 7

	// netTries is how many sockets net.Dialer itself tries an address with that
	// it connects and that ends in a self-connection or EADDRNOTAVAIL
	// (https://go.dev/issue/2690).
	netTries = 3
)

type controlFunc = func(ctx context.Context, network, address string, c syscall.RawConn) error

// A guard is what one dial tells the platform's hook and hears from it.
type guard struct {
	control controlFunc  // the caller's; nil: none
	local   *net.TCPAddr // the caller's local address; nil: none
	alone   bool         // no dial of ours stands around the hook: it is NetDialer's

	// connects says that the hook connects the socket itself and looks at it,
	// not net; install sets it.
	connects bool

	// again is why an attempt is worth repeating; the hook sets it, and may do so
	// in several goroutines (Happy Eyeballs).
	again atomic.Pointer[error]

	// lingers says that the hook had sockets reset on close, for net to discard.
	lingers atomic.Bool

	// last is the window that each address was last given, for the attempts that
	// cannot try both on one socket.
	last   map[string]PortRange
	lastMu sync.Mutex
}

// dial runs attempts at a dial until one need not be repeated. Each is once with
// the caller's settings, the guard, and a context that bounds them all.
func (d *Dialer) dial(ctx context.Context, network, address string, local *net.TCPAddr, once func(context.Context, *net.Dialer) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := d.bound(ctx)
	defer cancel()
	nd := d.settings()
	nd.Timeout, nd.Deadline, nd.Cancel = 0, time.Time{}, nil
	if !isTCP(network) {
		return once(ctx, nd)
	}
	g := &guard{control: d.callersControl(), local: local}
	g.install(nd)

	for failed, pauses := 0, 0; ; {
		g.again.Store(nil)
		conn, err := once(ctx, nd)
		if err == nil {
			if err = g.accept(conn); err == nil {
				return conn, nil
			}
			err = dialError(network, g.source(), conn.RemoteAddr(), err)
		}
		cause := g.repeatable(err)
		if failed += g.tries(); cause == nil || failed > d.maxRetries() {
			return nil, released(err)
		}
		if d.OnRetry != nil {
			d.OnRetry(ctx, Retry{Network: network, Address: address, Attempt: failed, Err: *cause})
		}
		if !errors.Is(*cause, ErrSelfConnect) {
			pause(ctx, pauses)
			pauses++
		}
	}
}

// isTCP reports whether network is one that the guard serves.
func isTCP(network string) bool {
	return network == "tcp" || network == "tcp4" || network == "tcp6"
}

// callersControl returns the caller's hook in its newer form, or nil.
func (d *Dialer) callersControl() controlFunc {
	if d.ControlContext != nil || d.Control == nil {
		return d.ControlContext
	}
	control := d.Control
	return func(_ context.Context, network, address string, c syscall.RawConn) error {
		return control(network, address, c)
	}
}

func (d *Dialer) maxRetries() int {
	if d.MaxRetries == 0 {
		return defaultRetries
	}
	return max(0, d.MaxRetries)
}

// bound returns a context that ends with Timeout, Deadline and Cancel too, and
// its cancel function, after which nothing is left of it. net is not handed the
// three: a Timeout would start anew for each attempt, and net.Dialer's Cancel
// leaves its goroutine behind (https://go.dev/issue/78531).
func (d *Dialer) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx == nil {
		panic("nil context")
	}
	deadline := d.Deadline
	if d.Timeout != 0 {
		if end := time.Now().Add(d.Timeout); deadline.IsZero() || end.Before(deadline) {
			deadline = end
		}
	}
	cancel := func() {}
	if !deadline.IsZero() {
		ctx, cancel = context.WithDeadline(ctx, deadline)
	}
	if d.Cancel == nil {
		return ctx, cancel
	}
	ctx, stop := context.WithCancel(ctx)
	go func() {
		select {
		case <-d.Cancel:
			stop()
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		stop()
		cancel()
	}
}

// accept looks at a connection that net returned: it discards one to itself,
// and one that cannot be told from it, and returns the error.
func (g *guard) accept(conn net.Conn) error {
	tcp := conn.(*net.TCPConn)
	local, peer := addrPort(tcp.LocalAddr()), addrPort(tcp.RemoteAddr())
	self, err := sameEnd(local, peer), error(nil)
	if !local.IsValid() || !peer.IsValid() {
		self, err = isSelfConnect(tcp)
	}
	if self {
		err = ErrSelfConnect
		if g.portFree() {
			g.repeat(err)
		}
	}
	if err != nil {
		// A plain close would leave TIME_WAIT, which keeps the port from a server
		// for a minute; lingering for no time closes with a reset.
		_ = tcp.SetLinger(0)
		_ = tcp.Close()
		return err
	}
	if g.lingers.Load() {
		_ = tcp.SetLinger(-1)
	}
	return nil
}

// repeat notes that the attempt is worth repeating because of err.
func (g *guard) repeat(err error) { g.again.Store(&err) }

// source returns the local address for an error, nil if there is none.
func (g *guard) source() net.Addr {
	if g.local == nil {
		return nil
	}
	return g.local
}

// portFree reports whether another attempt could have another local port, as
// far as the settings tell.
func (g *guard) portFree() bool { return g.local == nil || g.local.Port == 0 }

// repeatable returns why an attempt that failed with err is worth repeating, or
// nil. The cause is err itself if it can be; where an address that failed
// otherwise came first, net returned that one's error.
func (g *guard) repeatable(err error) *error {
	cause := g.again.Load()
	if cause == nil && !g.connects && g.portFree() && unavailable(err) {
		cause = &err
	}
	if cause == nil || !errors.Is(err, *cause) {
		return cause
	}
	err = released(err)
	return &err
}

// tries returns how many sockets an address got in an attempt that failed in a
// way worth repeating.
func (g *guard) tries() int {
	if g.connects || !g.portFree() {
		return 1
	}
	return netTries
}

// pause waits between two attempts, longer each time, and not past the end of
// the context: the next attempt then fails with net's error for that.
func pause(ctx context.Context, n int) {
	timer := time.NewTimer(firstPause << min(n, pauseDoubles))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// held keeps EADDRNOTAVAIL from net, which would repeat the dial by itself, and
// so multiply the work of a machine that is out of ports.
type held struct{ error }

func (h held) Unwrap() error { return h.error }

// released returns err, from net, as it would be if nothing had been held. It
// does not change it, for a trace may have it too.
func released(err error) error {
	op, ok := err.(*net.OpError)
	if !ok {
		return err
	}
	h, ok := op.Err.(held)
	if !ok {
		return err
	}
	return dialError(op.Net, op.Source, op.Addr, h.error)
}

// dialError returns an error of net.Dialer's form.
func dialError(network string, source, addr net.Addr, err error) error {
	return &net.OpError{Op: "dial", Net: network, Source: source, Addr: addr, Err: err}
}
