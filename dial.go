package safedial

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"syscall"
	"time"
)

// A dial is one call of a Dialer's methods.
type dial struct {
	target   target
	settings net.Dialer // for net, but for the hook
	caller   controlFunc
	limits   limits
	policy   retryPolicy
	record   *record
	seed     uint32 // random; it says which part of the ports a UDP dial uses first
}

// A failure is a failed attempt of a dial. The zero failure is none.
type failure struct {
	err     error // as the Dialer's caller gets it
	why     Retry // why another attempt may help; it will not if Err is nil
	retries int   // those that the hook has made
}

// dial dials t until it succeeds, fails for a reason that another attempt cannot help,
// or MaxRetries is reached.
func (d *Dialer) dial(ctx context.Context, t target) (net.Conn, error) {
	if ctx == nil {
		panic("nil context")
	}
	ctx, stop := d.bound(ctx)
	defer stop()

	g := dial{target: t, settings: d.settings(), policy: d.policy()}
	g.settings.LocalAddr = t.local
	g.settings.Timeout, g.settings.Deadline = 0, time.Time{}
	g.settings.Cancel = nil //lint:ignore SA1019 ctx has taken its place
	if !isTCP(t.network) && !isUDP(t.network) {
		return g.settings.DialContext(ctx, t.network, t.address)
	}

	var err error
	if g.limits, err = d.portLimits(); err != nil {
		return nil, dialError(t.network, t.local, nil, err)
	}
	g.caller = d.callersControl()
	if t.remote != nil && g.caller != nil && ctx.Err() != nil {
		return nil, dialEnded(ctx, g.settings, t, g.caller)
	}
	if g.caller != nil || g.limits.limited() || g.policy.onRetry != nil || g.policy.max > immediateRetries {
		g.record = new(record)
	}
	if isUDP(t.network) && g.limits.limited() {
		g.seed = rand.Uint32() | 1
	}
	return g.run(ctx)
}

// run makes one attempt after the other.
func (g *dial) run(ctx context.Context) (net.Conn, error) {
	var before error
	for retries := 0; ; retries++ {
		conn, f := g.attempt(ctx, retries)
		if f.err == nil {
			return conn, nil
		}
		if _, ok := errors.AsType[*net.DNSError](f.err); ok && before != nil {
			return nil, before // a lookup needs a local port, too, but is not retried
		}
		before = f.err

		retries += f.retries
		if f.why.Err == nil || retries >= g.policy.max || ctx.Err() != nil {
			return nil, f.err
		}
		if g.policy.onRetry != nil {
			g.policy.onRetry(ctx, f.why)
		}
		if err := pause(ctx, retries); err != nil {
			op, _ := errors.AsType[*net.OpError](f.err)
			return nil, dialError(op.Net, op.Source, op.Addr, err)
		}
	}
}

// attempt makes one attempt, after so many retries.
func (g *dial) attempt(ctx context.Context, retries int) (net.Conn, failure) {
	if isUDP(g.target.network) {
		return g.attemptUDP(ctx)
	}
	inHook := 0
	if hookConnects {
		inHook = max(0, min(g.policy.max, immediateRetries)-retries)
	}
	conn, err := g.once(ctx, inHook, 0)
	switch {
	case err == nil:
		return conn, failure{}
	case conn != nil:
		reset(conn)
		return nil, g.fail(err)
	case hookConnects:
		return nil, g.hookFailed(err, inHook)
	case g.isNoPort(err):
		return nil, g.fail(err)
	}
	return nil, failure{err: g.target.netError(err)}
}

// hookFailed returns the failure of a dial whose hook may make inHook retries for each
// address. net's error is that of the first address; another attempt may help another.
func (g *dial) hookFailed(err error, inHook int) failure {
	f := failure{err: g.target.netError(err), why: g.record.takeLast(), retries: inHook}
	op, _ := errors.AsType[*net.OpError](err)
	if h, ok := any(op.Err).(*hookError); ok {
		f.retries = h.retries
		if f.why.Err == nil {
			f.why.Err = h.err // which is all that is needed without OnRetry
		}
	}
	return f
}

// attemptUDP makes one attempt to dial UDP. It may use several sockets, which net binds
// and connects.
//
// A socket that is connected to itself is kept open until the next one is made, so that
// the kernel chooses another port. If there is none, the kept socket has the last one,
// and the error is not that of the next.
//
// With limits, each socket is told to use another part of the ports.
func (g *dial) attemptUDP(ctx context.Context) (net.Conn, failure) {
	var kept net.Conn
	defer func() {
		if kept != nil {
			_ = kept.Close()
		}
	}()
	var rejected error
	for round := 0; ; round++ {
		conn, err := g.once(ctx, 0, round)
		if err == nil {
			return conn, failure{}
		}
		noPort := g.isNoPort(err)
		if conn != nil {
			if kept != nil {
				_ = kept.Close()
			}
			kept, rejected = conn, err
		} else if rejected != nil && (noPort || errors.Is(err, errAddrInUse)) {
			err = rejected
		}

		switch {
		case conn == nil && !noPort, g.portIsFixed():
			return nil, failure{err: g.target.netError(err)}
		case g.limits.limited() && round+1 < g.record.parts && ctx.Err() == nil:
		case !g.limits.limited() && round == 0 && conn != nil && ctx.Err() == nil:
		default:
			return nil, g.fail(err)
		}
	}
}

// once has net dial once. If it returns a connection with an error, the connection must
// not be used, and another one may be better.
func (g *dial) once(ctx context.Context, inHook, round int) (net.Conn, error) {
	nd := g.settings
	h := g.newHook(&nd, inHook, round)
	conn, err := nd.DialContext(ctx, g.target.forNet, g.target.addressForNet)
	if err != nil {
		return nil, err
	}
	known, reason := g.check(conn)
	if reason == nil {
		h.restore(conn)
		return conn, nil
	}
	err = dialError(g.target.network, g.target.local, g.target.remoteAddr(conn.RemoteAddr()), reason)
	if !known {
		reset(conn)
		return nil, err
	}
	return conn, err
}

// check looks at the addresses of a connection, for which net has asked the socket. It
// returns why the connection must not be used. If the system does not report the
// addresses, known is false, and reason its error.
func (g *dial) check(conn net.Conn) (known bool, reason error) {
	local, peer := addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr())
	if sc, ok := conn.(syscall.Conn); ok && !local.IsValid() {
		var err error
		if local, peer, err = askSocket(sc); err != nil {
			return false, err
		}
	}
	switch {
	case sameEndpoint(local, peer):
		return true, ErrSelfConnect
	case isUDP(g.target.network) && !g.portIsFixed() && !g.limits.allows(local.Port()):
		return true, errLimitsIgnored(g.limits.String(), local.Port())
	}
	return true, nil
}

// portIsFixed reports whether LocalAddr has a port, or the caller's hook has bound a UDP
// socket to one. The next socket would get the same.
func (g *dial) portIsFixed() bool {
	return addrPort(g.target.local).Port() != 0 || g.record != nil && g.record.portBound
}

// isNoPort reports whether err, of net's dial, is that the system found no local port.
func (g *dial) isNoPort(err error) bool {
	op, ok := any(err).(*net.OpError)
	return ok && isNoPort(op.Err) && !g.portIsFixed() && !g.record.isCallers(op.Err)
}

// fail notes an attempt that failed with err, a *net.OpError.
func (g *dial) fail(err error) failure {
	op, _ := errors.AsType[*net.OpError](err)
	if g.portIsFixed() {
		return failure{err: g.target.netError(err)}
	}
	network, address := g.target.network, ""
	if op.Addr != nil {
		network, address = socketNetwork(network, addrPort(op.Addr).Addr()), op.Addr.String()
	}
	why := Retry{Network: network, Address: address, Attempt: g.record.fail(), Err: op.Err}
	return failure{err: g.target.netError(err), why: why}
}

// Values of SO_LINGER, in seconds: off, and close(2) with a reset, which leaves no
// TIME_WAIT.
const (
	lingerOff   = -1
	lingerReset = 0
)

// reset closes conn. A plain close of a TCP connection to itself would leave TIME_WAIT,
// which keeps the port from a server for a minute.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// asConn returns conn with its concrete type, and nil for nil.
func asConn[C net.Conn](conn net.Conn, err error) (C, error) {
	c, _ := conn.(C)
	return c, err
}

// dialEnded is a dial of one address whose context has ended. Unlike DialContext, net's
// DialTCP and DialUDP call the caller's hook before they look at the context.
func dialEnded(ctx context.Context, nd net.Dialer, t target, caller controlFunc) error {
	nd.Control = nil
	nd.ControlContext = func(_ context.Context, network, address string, c syscall.RawConn) error {
		if err := caller(ctx, network, shown(address, t.anyIPv4), c); err != nil {
			return err
		}
		return endedError(ctx)
	}
	_, err := nd.DialContext(context.WithoutCancel(ctx), t.forNet, t.addressForNet)
	return t.netError(err)
}
