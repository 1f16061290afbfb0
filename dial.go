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
	settings net.Dialer // what net is told, without the hook, which once adds
	caller   controlFunc
	limits   limits
	policy   retryPolicy
	record   *record // what the hook has to say; nil if nobody needs it
	met      uint16  // the port from which a socket was connected to itself and could not go on
	seed     uint32  // random; with limits, it says which part of the ports comes first
}

// A failure is a failed attempt of a dial. The zero failure is none.
type failure struct {
	err     error // as the Dialer's caller gets it
	why     Retry // the reason for another attempt; its Err is nil if that cannot help
	retries int   // how many the hook has made by itself
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
	g.settings.Cancel = nil //nolint:staticcheck // SA1019: ctx has taken its place
	if !isTCP(t.network) && !isUDP(t.network) {
		return g.settings.DialContext(ctx, t.network, t.address)
	}

	var err error
	if g.limits, err = d.portLimits(); err != nil {
		return nil, dialError(t.network, t.local, nil, err)
	}
	g.caller = d.callersControl()
	if t.remote != nil && g.caller != nil && ctx.Err() != nil {
		return nil, callEnded(ctx, g.settings, t, g.caller)
	}

	// Without a record, all TCP dials with the default settings share one hook. Those dials
	// make no more retries than the hook does, and report them to nobody.
	if g.caller != nil || g.limits.limited() || g.policy.onRetry != nil || g.policy.max > immediateRetries {
		g.record = new(record)
	}
	if g.limits.limited() {
		g.seed = rand.Uint32() | 1
	}
	return g.run(ctx)
}

// run makes one attempt after the other. A pause before a retry is here, around net's
// dial of all addresses, so that no address waits while another could be dialed.
func (g *dial) run(ctx context.Context) (net.Conn, error) {
	var before error
	for retries := 0; ; retries++ {
		conn, f := g.attempt(ctx, retries)
		if f.err == nil {
			return conn, nil
		}
		if before != nil && isLookupError(f.err) && ctx.Err() == nil {
			return nil, before // the lookup, too, may have found no local port
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
			return nil, withCause(f.err, err)
		}
	}
}

// attempt makes one attempt, after so many retries. For TCP it is one dial of net. On
// Linux, the hook of that dial makes the retries that need no pause.
func (g *dial) attempt(ctx context.Context, retries int) (net.Conn, failure) {
	if isUDP(g.target.network) {
		return g.attemptUDP(ctx)
	}
	hookRetries := 0
	if hookConnects {
		hookRetries = max(0, min(g.policy.max, immediateRetries)-retries)
	}
	conn, err := g.once(ctx, hookRetries, retries)
	switch {
	case err == nil:
		return conn, failure{}
	case conn != nil:
		reset(conn)
		return nil, g.fail(conn, err)
	case hookConnects:
		return nil, g.hookFailed(err, hookRetries)
	case g.isNoPort(err):
		return nil, g.fail(nil, err)
	}
	return nil, failure{err: g.target.netError(err)}
}

// hookFailed returns the failure of a dial whose hook may make so many retries for each
// address. net's error is the first address's. If another attempt may help any address,
// the hook has noted it, or it says so by its error.
func (g *dial) hookFailed(err error, hookRetries int) failure {
	f := failure{err: g.target.netError(err), why: g.record.takeLast(), retries: hookRetries}
	op, ok := outermost[*net.OpError](err)
	if !ok {
		return f
	}
	if h, ok := outermost[*hookError](op.Err); ok {
		f.retries, g.met = h.retries, h.met
		if f.why.Err == nil {
			f.why.Err = h.err // nobody is told more without a record
		}
	}
	return f
}

// attemptUDP makes one attempt to dial UDP. It may use several sockets, which net binds
// and connects.
//
// A socket that is connected to itself stays open until the next one is made, so that the
// kernel chooses another port: it chooses at random, and of few ports often the same one
// again. If the next socket finds no port, the kept one has the last, and the attempt has
// failed because of that. A dial without limits makes one other socket at most.
//
// With limits, the hook tells each socket another part of the ports.
func (g *dial) attemptUDP(ctx context.Context) (net.Conn, failure) {
	var kept net.Conn
	defer func() {
		if kept != nil {
			_ = kept.Close()
		}
	}()
	var rejected error
	rejections := 0
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
			kept = conn
			rejections++
			if errors.Is(err, ErrSelfConnect) {
				rejected = err
			}
		} else if rejected != nil && (noPort || errors.Is(err, errAddrInUse)) {
			err = rejected
		}
		if conn == nil && !noPort {
			return nil, failure{err: g.target.netError(err)}
		}

		// A port that is not allowed means that the local port range has changed since the
		// hook has read it, or that it is not known. The part may be tried once more.
		another := round == 0 && conn != nil
		if g.limits.limited() {
			another = round+1 < g.record.parts+min(rejections, g.record.parts)
		}
		if !another || g.portIsFixed() || ctx.Err() != nil {
			return nil, g.fail(kept, err)
		}
	}
}

// once has net dial once. If it returns a connection with an error, the connection must
// not be used, but another one may be better.
func (g *dial) once(ctx context.Context, hookRetries, round int) (net.Conn, error) {
	nd := g.settings
	restore := g.setHook(&nd, hookRetries, round)
	conn, err := nd.DialContext(ctx, g.target.forNet, g.target.addressForNet)
	if err != nil {
		return nil, err
	}

	reason := g.check(conn)
	if reason == nil {
		if restore != nil {
			restore(conn)
		}
		return conn, nil
	}
	err = dialError(g.target.network, g.target.local, g.target.remoteAddr(conn.RemoteAddr()), reason)
	if errors.Is(reason, ErrSelfConnect) || errors.Is(reason, errors.ErrUnsupported) {
		return conn, err
	}
	reset(conn) // nobody knows its ends
	return nil, err
}

// check looks at the addresses of a connection that net has made, and returns why it must
// not be used. It costs nothing, because net has asked the socket for both addresses. If
// the system does not report them, reason is its error.
func (g *dial) check(conn net.Conn) (reason error) {
	local, peer := addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr())
	if sc, ok := conn.(syscall.Conn); ok && !local.IsValid() {
		var err error
		if local, peer, err = askSocket(sc); err != nil {
			return err
		}
	}
	switch {
	case sameEndpoint(local, peer):
		return ErrSelfConnect
	case isUDP(g.target.network) && !g.portIsFixed() && !g.limits.allows(local.Port()):
		return errLimitsIgnored(g.limits.String(), local.Port())
	}
	return nil
}

// portIsFixed reports whether LocalAddr has a port, or the caller's hook has bound a UDP
// socket to one. The next socket would get the same.
func (g *dial) portIsFixed() bool {
	return addrPort(g.target.local).Port() != 0 || g.record != nil && g.record.portBound
}

// isNoPort reports whether err, of net's dial, is that the system found no local port. For
// UDP, Linux says so by EAGAIN; with EADDRNOTAVAIL it says that the host has no source
// address for the destination, which will not change.
func (g *dial) isNoPort(err error) bool {
	op, ok := outermost[*net.OpError](err)
	if !ok || !isNoPort(op.Err) || g.portIsFixed() || g.record.isCallers(op.Err) {
		return false
	}
	noSource := hookConnects && isUDP(g.target.network) && errors.Is(op.Err, errAddrNotAvailable)
	return !noSource
}

// fail counts an attempt that has failed with err. The connection is the one that was
// rejected, if there was one.
func (g *dial) fail(conn net.Conn, err error) failure {
	f := failure{err: g.target.netError(err)}
	op, ok := outermost[*net.OpError](err)
	if !ok || g.portIsFixed() {
		return f
	}
	local := addrPort(g.target.local)
	if conn != nil {
		local = addrPort(conn.LocalAddr())
	}
	f.why = Retry{Network: g.target.network, Attempt: g.record.fail(), Err: op.Err}
	if op.Addr != nil {
		f.why.Network = socketNetwork(g.target.network, local.Addr(), addrPort(op.Addr).Addr())
		f.why.Address = op.Addr.String()
	}
	return f
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
		_ = tcp.SetLinger(lingerReset)
	}
	_ = conn.Close()
}

// unlessSelf returns a connection that net has dialed by itself, because it was expected to
// refuse the addresses. A hook can make it connect nevertheless.
func unlessSelf[C net.Conn](conn C, err error) (C, error) {
	if err != nil || !IsSelfConnect(conn) {
		return conn, err
	}
	reset(conn)
	var none C
	return none, dialError(conn.LocalAddr().Network(), conn.LocalAddr(), conn.RemoteAddr(), ErrSelfConnect)
}

// asConn returns conn with its concrete type, and nil for nil.
func asConn[C net.Conn](conn net.Conn, err error) (C, error) {
	c, _ := conn.(C)
	return c, err
}

// callEnded is a dial of one address whose context has ended. net's DialTCP and DialUDP
// make a socket for it and call the caller's hook, and find out then that the context has
// ended. DialContext, which dial uses instead of them, does not. So this is a DialContext
// for the call alone: its own context does not end, and its hook always fails.
func callEnded(ctx context.Context, nd net.Dialer, t target, caller controlFunc) error {
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
