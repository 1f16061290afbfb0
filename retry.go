package safedial

import (
	"context"
	"errors"
	"net"
	"time"
)

const (
	defaultRetries = 2

	pauseDoubles = 7

	// netTries is how many sockets net.Dialer itself tries an address with that
	// it connects by TCP from a port of the kernel's choice, if each ends in a
	// self-connection or EADDRNOTAVAIL (https://go.dev/issue/2690).
	netTries = 3
)

// firstPause is a variable for the tests that find no port a million times.
var firstPause = time.Millisecond

// dial runs attempts at a dial from local until one need not be repeated. Each is
// once, with the caller's settings, the guard, and a context that bounds them all.
func (d *Dialer) dial(ctx context.Context, network, address string, local net.Addr, once func(context.Context, *net.Dialer) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := d.bound(ctx)
	defer cancel()
	nd := d.settings()
	nd.Timeout, nd.Deadline, nd.Cancel = 0, time.Time{}, nil
	if !isTCP(network) && !isUDP(network) {
		return once(ctx, nd)
	}
	g := d.newGuard(local)
	defer g.release()
	if err := g.install(nd); err != nil {
		return nil, dialError(network, g.local, nil, err)
	}

	for failed, pauses := 0, 0; ; {
		g.again.Store(nil)
		conn, err := once(ctx, nd)
		if err == nil {
			if err = g.accept(conn); err == nil {
				return conn, nil
			}
			err = dialError(network, g.local, conn.RemoteAddr(), err)
		}
		err = g.blame(err)
		cause, sockets := g.repeatable(network, err)
		if failed += sockets; cause == nil || failed > d.maxRetries() {
			return nil, released(err)
		}
		if d.OnRetry != nil {
			d.OnRetry(ctx, Retry{Network: network, Address: address, Attempt: failed, Err: cause})
		}
		if !errors.Is(cause, ErrSelfConnect) {
			pause(ctx, pauses)
			pauses++
		}
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
