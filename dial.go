package safedial

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
)

// A portOrder says in which order the ranges of local ports are used. A UDP socket
// uses one: in round 0 any, in the others each the next.
type portOrder struct {
	pick  uint32 // a random number; 0 means one for each socket
	round int
}

// Values of SO_LINGER, in seconds: off, and close(2) with a reset, which leaves no
// TIME_WAIT.
const (
	lingerOff   = -1
	lingerReset = 0
)

// A dialing is a dial in progress.
type dialing struct {
	target
	retries
	portOrder
	*Dialer
	settings net.Dialer
	kept     []net.Conn // UDP sockets that met themselves, so that the system chooses other ports
}

// dial dials t until it succeeds, fails with an error that is not worth a retry, or
// MaxRetries is reached. On Linux it asks net nearly always only once, because the
// hook retries by itself.
func (d *Dialer) dial(ctx context.Context, t target) (net.Conn, error) {
	if ctx == nil {
		panic("nil context")
	}
	ctx, stop := withCancel(ctx, d.Cancel)
	defer stop()
	settings := d.settings()
	settings.LocalAddr = t.local
	settings.Cancel = nil //lint:ignore SA1019 withCancel has taken its place
	settings.Timeout, settings.Deadline = 0, d.deadline()
	if !isTCP(t.network) && !isUDP(t.network) {
		return settings.DialContext(ctx, t.network, t.address)
	}
	g := dialing{
		target: t, Dialer: d, settings: settings,
		retries: retries{retryPolicy: d.retryPolicy()}, portOrder: portOrder{pick: rand.Uint32() | 1},
	}
	defer g.closeKept()
	var failed error // of the attempt before
	for {
		conn, again, err := g.once(ctx)
		if _, ok := errors.AsType[*net.DNSError](err); ok {
			return nil, cmp.Or(failed, err) // a lookup needs a local port too, but is not retried
		}
		if failed = err; again {
			again, err = g.next(ctx, err)
		}
		if !again {
			return conn, err
		}
	}
}

// once makes the dial once. It reports whether another time may do better than one
// that failed.
func (g *dialing) once(ctx context.Context) (conn net.Conn, again bool, err error) {
	nd := g.settings
	restore, err := g.install(&nd, g.network, g.portOrder)
	if err != nil {
		return nil, false, dialError(g.network, g.local, nil, err)
	}
	conn, err = nd.DialContext(ctx, g.forNet, g.addressForNet)
	if err != nil {
		again = repeatsAround(g.network, err, hasPort(g.local))
		return nil, again, g.asNet(err)
	}
	again, err = g.portLimits().checkConn(conn, hasPort(g.local))
	if err != nil {
		err = dialError(g.network, g.local, g.remoteAddr(conn.RemoteAddr()), err)
		if tcp, ok := conn.(*net.TCPConn); ok {
			reset(tcp)
		} else {
			g.kept = append(g.kept, conn)
		}
		return nil, again, err
	}
	restore(conn)
	return conn, false, nil
}

// next prepares the next time after one that failed with err, a *net.OpError.
// Another range of ports is no retry.
func (g *dialing) next(ctx context.Context, err error) (again bool, _ error) {
	if !g.settings.Deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, g.settings.Deadline)
		defer cancel()
	}
	op, _ := errors.AsType[*net.OpError](err)
	dest := addrPort(op.Addr)
	g.round++
	oneRange := !g.portLimits().limited() && systemPorts().excludes(dest.Port())
	if isConnectAgain(err) && !oneRange && g.round%(len(g.AvoidPorts)+3) != 0 {
		return ctx.Err() == nil, err
	}
	again, ended := g.retries.next(ctx, socketNetwork(g.network, dest), op.Addr.String(), dest, op.Err)
	if ended != nil {
		err = dialError(op.Net, op.Source, op.Addr, ended)
	}
	return again, err
}

func (g *dialing) closeKept() {
	for _, conn := range g.kept {
		_ = conn.Close()
	}
}

// checkConn checks a connection that net returned, by the addresses that net has
// got from the socket. It reports whether another dial may do better. If the system
// does not report the addresses, it will not do so for the next socket.
func (l portLimits) checkConn(conn net.Conn, fixed bool) (again bool, err error) {
	local, peer := addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr())
	self := sameEndpoint(local, peer)
	if !local.IsValid() || !peer.IsValid() {
		if self, err = isSelfConnect(conn); err != nil {
			return false, err
		}
	}
	switch {
	case self:
		return !fixed, ErrSelfConnect
	case isUDP(conn.LocalAddr().Network()) && !fixed && !l.allows(local.Port()):
		return true, errLocalPortIgnored(l.String(), local.Port())
	}
	return false, nil
}

// reset closes conn with a reset: a plain close would leave TIME_WAIT, which keeps
// the port from a server for a minute.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

// asConn returns conn with its concrete type, and nil for nil.
func asConn[C net.Conn](conn net.Conn, err error) (C, error) {
	c, _ := conn.(C)
	return c, err
}

// tcpAddr returns ap in net's form, nil if it is not valid.
func tcpAddr(ap netip.AddrPort) *net.TCPAddr {
	if !ap.IsValid() {
		return nil
	}
	return net.TCPAddrFromAddrPort(ap)
}
