package safedial

import (
	"context"
	"errors"
	"net"
	"runtime"
	"time"
)

const (
	defaultRetries = 2

	// hastyRetries come without a pause: as many as net makes, for which an error
	// that is spurious is gone already.
	hastyRetries = 2

	firstPause   = time.Millisecond
	pauseDoubles = 7

	// netTries is how many sockets net.Dialer itself tries an address with that
	// it connects by TCP from a port of the kernel's choice, if each ends in a
	// self-connection or EADDRNOTAVAIL (https://go.dev/issue/2690).
	netTries = 3
)

// dial makes the call from local, unless nil, guarded, and bounded by all that
// bounds d's dials.
func (d *Dialer) dial(ctx context.Context, c call, local net.Addr) (net.Conn, error) {
	ctx, cancel := d.bound(ctx)
	defer cancel()
	nd := d.settings()
	nd.Timeout, nd.Deadline = 0, time.Time{}
	nd.Cancel = nil //lint:ignore SA1019 the field is net.Dialer's too
	if c.method == callDialContext {
		nd.LocalAddr = local
	}
	if !isTCP(c.network) && !isUDP(c.network) {
		return c.on(ctx, &nd)
	}
	g := guards.Get().(*guard)
	g.set(d, local)
	conn, err := d.repeat(ctx, &nd, c, g)
	if c.serial(&nd) {
		g.reset()
		guards.Put(g)
	}
	return conn, err
}

// repeat makes the call until it need not be repeated, or may not.
func (d *Dialer) repeat(ctx context.Context, nd *net.Dialer, c call, g *guard) (net.Conn, error) {
	defer g.release()
	if err := g.install(nd); err != nil {
		return nil, dialError(c.network, g.local, nil, err)
	}
	for failed, pauses := 0, 0; ; {
		g.again.Store(nil)
		conn, err := c.on(ctx, nd)
		if err == nil {
			if err = g.accept(conn); err == nil {
				return conn, nil
			}
			err = dialError(c.network, g.local, conn.RemoteAddr(), err)
		}
		err = g.blame(err)
		sockets, cause := g.repeatable(c.network, err)
		if failed += sockets; cause == nil || failed > d.maxRetries() {
			return nil, released(err)
		}
		if d.OnRetry != nil {
			d.OnRetry(ctx, Retry{Network: c.network, Address: c.address, Attempt: failed, Err: cause})
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

// pause waits between two attempts: after the first few longer each time, and not
// past the end of the context; the next attempt then fails with net's error for
// that.
func pause(ctx context.Context, n int) {
	if n < hastyRetries {
		runtime.Gosched()
		return
	}
	timer := time.NewTimer(firstPause << min(n-hastyRetries, pauseDoubles))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
