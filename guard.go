package safedial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

type controlFunc = func(ctx context.Context, network, address string, c syscall.RawConn) error

// A guard is what one dial tells the platform's hook and hears from it.
type guard struct {
	control controlFunc // the caller's; nil: none
	local   net.Addr    // a *net.TCPAddr or *net.UDPAddr to dial from; nil: none
	ports   PortRange   // where the kernel may pick; zero: anywhere
	alone   bool        // no dial of ours stands around the hook: it is NetDialer's

	// asHook is the guard's method hook, which is made once.
	asHook controlFunc

	// connects says that the hook connects the socket itself and looks at it,
	// not net; install sets it.
	connects bool

	// again is why an attempt is worth repeating; the hook sets it, and may do so
	// in several goroutines (Happy Eyeballs).
	again atomic.Pointer[error]

	// lingers says that the hook had sockets reset on close, for net to discard.
	lingers atomic.Bool

	mu sync.Mutex

	// last is the window that each address was last given, for the attempts that
	// cannot try both on one socket.
	last map[string]PortRange

	// held are UDP sockets that were connected to themselves. They stay open while
	// others are tried, or the kernel could pick their port once more.
	held []func()
}

// guards are those of dials that have returned, and whose hook is called no more.
var guards = sync.Pool{New: func() any { return new(guard) }}

// set makes the guard that of a dial from local.
func (g *guard) set(d *Dialer, local net.Addr) {
	g.control, g.ports = d.callersControl(), d.LocalPorts
	switch addr := local.(type) {
	case *net.TCPAddr:
		if addr != nil {
			g.local = addr
		}
	case *net.UDPAddr:
		if addr != nil {
			g.local = addr
		}
	}
}

// reset forgets the dial, for another.
func (g *guard) reset() { *g = guard{asHook: g.asHook} }

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

// isTCP and isUDP tell the networks that the guard serves, of a caller or a hook.
func isTCP(network string) bool { return network == "tcp" || network == "tcp4" || network == "tcp6" }
func isUDP(network string) bool { return network == "udp" || network == "udp4" || network == "udp6" }

// portFree reports whether another attempt could have another local port, as
// far as the settings tell.
func (g *guard) portFree() bool { return g.local == nil || addrPort(g.local).Port() == 0 }

// repeat notes that the attempt is worth repeating because of err.
func (g *guard) repeat(err error) { g.again.Store(&err) }

// accept looks at a connection that net returned: it discards one to itself, one
// that cannot be told from it, and one from a port outside LocalPorts, and
// returns the error.
func (g *guard) accept(conn net.Conn) error {
	local, peer := addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr())
	self, err := sameEnd(local, peer), error(nil)
	if !local.IsValid() || !peer.IsValid() {
		self, err = isSelfConnect(conn)
	}
	again := g.portFree()
	switch {
	case self:
		err = ErrSelfConnect
	case err != nil:
		again = false // who does not tell this socket's ends will not tell the next one's
	case again && !g.connects:
		err = g.checkPort(local.Port())
	}
	if err != nil {
		if again {
			g.repeat(err)
		}
		g.discard(conn)
		return err
	}
	if g.lingers.Load() {
		_ = conn.(*net.TCPConn).SetLinger(-1)
	}
	return nil
}

// checkPort reports a port that the kernel picked although it is not in
// LocalPorts, as it does if the local port range has moved away from it.
func (g *guard) checkPort(port uint16) error {
	if g.ports == (PortRange{}) || g.ports.Contains(port) {
		return nil
	}
	return fmt.Errorf("local port %d was picked outside of local ports %s", port, g.ports)
}

// discard closes a TCP connection with a reset, by lingering for no time: a plain
// close would leave TIME_WAIT, which keeps the port from a server for a minute.
func (g *guard) discard(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
		_ = tcp.Close()
		return
	}
	g.hold(func() { _ = conn.Close() })
}

// hold has a socket stay open until release.
func (g *guard) hold(closeSocket func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = append(g.held, closeSocket)
}

// blame returns [ErrSelfConnect] instead of an error that says that no port was
// left, if that is so because a socket on hold has it.
func (g *guard) blame(err error) error {
	g.mu.Lock()
	holds := len(g.held) > 0
	g.mu.Unlock()
	if !holds || !noPort(err) {
		return err
	}
	var op *net.OpError
	if !errors.As(err, &op) {
		return err
	}
	g.repeat(ErrSelfConnect)
	return dialError(op.Net, op.Source, op.Addr, ErrSelfConnect)
}

// release closes the sockets on hold.
func (g *guard) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, closeSocket := range g.held {
		closeSocket()
	}
	g.held = nil
}

// repeatable returns why an attempt that failed with err is worth repeating, or
// nil, and how many sockets it took. The cause is err itself if it can be; where
// an address that failed otherwise came first, net returned that one's error.
func (g *guard) repeatable(network string, err error) (sockets int, cause error) {
	if again := g.again.Load(); again != nil {
		cause = *again
	} else if !g.connects && g.portFree() && (unavailable(err) || noPortToBind(err)) {
		cause = err
	}
	if cause != nil && errors.Is(err, cause) {
		cause = released(err)
	}
	if isTCP(network) && !g.connects && g.portFree() && (unavailable(cause) || errors.Is(cause, ErrSelfConnect)) {
		return netTries, cause
	}
	return 1, cause
}

// portsReversed reports LocalPorts that are the wrong way round.
func (g *guard) portsReversed() error {
	if g.ports != (PortRange{}) && g.ports.Len() == 0 {
		return fmt.Errorf("local ports %d-%d: the first is above the last", g.ports.Low, g.ports.High)
	}
	return nil
}
