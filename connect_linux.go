package safedial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// install makes the guard nd's hook, which runs the caller's.
//
// net.Dialer calls the hook between socket(2) and bind(2). Where nothing is to
// be bound the hook connects, and net's own connect(2) then finds the socket
// connected or connecting. Where net binds LocalAddr after the hook, the hook
// only sets options. NetDialer's guard binds LocalAddr itself, because nobody
// could look at the socket after net connected it.
func (g *guard) install(nd *net.Dialer) error {
	nd.Control, nd.ControlContext = nil, g.hook
	if g.alone && g.local != nil {
		nd.LocalAddr = nil
	}
	g.connects = g.alone || g.local == nil
	return g.portsReversed()
}

// hook is net.Dialer.ControlContext: the caller's hook, then the guard.
func (g *guard) hook(ctx context.Context, network, address string, c syscall.RawConn) error {
	if g.control != nil {
		if err := g.control(ctx, network, address, c); err != nil {
			return err
		}
	}
	if g.alone && g.local != nil && !strings.HasPrefix(network, g.local.Network()) {
		return &net.AddrError{Err: "mismatched local address type", Addr: g.local.String()}
	}
	dest, ok := parseDestination(network, address)
	if !ok {
		return nil
	}
	var err error
	ctrlErr := c.Control(func(fd uintptr) {
		if g.connects {
			err = g.connect(int(fd), dest)
		} else {
			err = g.prepare(int(fd), dest, address)
		}
	})
	if ctrlErr != nil {
		return ctrlErr
	}
	return err
}

// connect connects the socket from a port other than the destination's, and
// refuses it if it is connected to itself all the same.
func (g *guard) connect(fd int, dest destination) error {
	allowed, fixed, err := g.choice(fd, dest)
	if err != nil {
		return err
	}
	lent := false
	if fixed {
		err = unix.Connect(fd, sockaddr(fd, dest.AddrPort, dest.v6))
	} else {
		lent, err = g.connectBeside(fd, dest, allowed)
	}
	switch err {
	case nil, unix.EINPROGRESS, unix.EALREADY, unix.EISCONN, unix.EINTR:
		err = g.look(fd, dest, fixed)
	}
	if err == nil {
		if lent {
			reclaimPort(fd)
		}
		return nil
	}
	if errno, ok := err.(unix.Errno); ok {
		err = os.NewSyscallError("connect", errno)
	}
	if g.alone || fixed {
		return holdBack(err, fixed)
	}
	return g.consider(fd, dest, err)
}

// consider notes whether another attempt may do better than the one that failed
// with err, and returns what to tell net.
func (g *guard) consider(fd int, dest destination, err error) error {
	if err == ErrSelfConnect && dest.udp {
		if dup, dupErr := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); dupErr == nil {
			g.hold(func() { _ = unix.Close(dup) })
		}
	}
	if err == ErrSelfConnect || unavailable(err) || errors.Is(err, errStalePorts) {
		localPorts.forget()
		g.repeat(err)
	}
	return holdBack(err, true)
}

// holdBack keeps EADDRNOTAVAIL from net, if it shall.
func holdBack(err error, hold bool) error {
	if hold && unavailable(err) {
		return held{err}
	}
	return err
}

// choice returns the ports that the kernel may pick from as far as the caller is
// concerned, or that the port is fixed because the socket has one.
func (g *guard) choice(fd int, dest destination) (allowed PortRange, fixed bool, err error) {
	allowed = g.allowed(fd)
	if g.control != nil {
		local, err := sockname(fd)
		if err != nil {
			return PortRange{}, false, err
		}
		fixed = local.Port() != 0
	}
	if g.local != nil {
		if err := bind(fd, g.local, dest.v6); err != nil {
			return PortRange{}, false, err
		}
		fixed = fixed || !g.portFree()
	}
	return allowed, fixed, nil
}

// allowed returns the ports that both LocalPorts and the caller's hook allow.
func (g *guard) allowed(fd int) PortRange {
	allowed := everyPort
	if g.ports != (PortRange{}) {
		allowed = g.ports
	}
	if g.control != nil {
		allowed = allowed.intersect(narrowed(fd))
	}
	return allowed
}

// around returns the windows to connect from, and fails if LocalPorts leave none.
func (g *guard) around(port uint16, allowed PortRange) ([]PortRange, error) {
	found := windows(port, localPorts.get(), allowed)
	if len(found) > 0 || g.ports == (PortRange{}) {
		return found, nil
	}
	localPorts.forget()
	system := localPorts.get()
	if found = windows(port, system, allowed); len(found) > 0 {
		return found, nil
	}
	return nil, fmt.Errorf("local ports %s: no port of the system's %s beside the destination's %d", g.ports, system, port)
}

// narrow is narrow(fd, window), whose failure matters only to LocalPorts.
func (g *guard) narrow(fd int, window PortRange) (narrowed bool, err error) {
	err = narrow(fd, window)
	if err == nil || g.ports == (PortRange{}) {
		return err == nil, nil
	}
	return false, fmt.Errorf("local ports %s, of the system's %s: %w: %w", g.ports, localPorts.get(), errors.ErrUnsupported, os.NewSyscallError("setsockopt", err))
}

// connectBeside connects from the first window around the destination's port
// that has a free port. Where the kernel takes no window, or no port is left
// beside the destination's, the look alone keeps the promise: there a TCP socket
// lends its port, by SO_REUSEADDR, to a server that binds it in the moment that
// a self-connection lives.
func (g *guard) connectBeside(fd int, dest destination, allowed PortRange) (lent bool, err error) {
	sa := sockaddr(fd, dest.AddrPort, dest.v6)
	around, err := g.around(dest.Port(), allowed)
	if err != nil {
		return false, err
	}
	for i, window := range around {
		narrowed, err := g.narrow(fd, window)
		if err != nil {
			return false, err
		}
		if !narrowed {
			break
		}
		err = unix.Connect(fd, sa)
		if i == len(around)-1 || err != errAddrNotAvailable && err != errTryAgain {
			return false, err
		}
	}
	if !dest.udp && localPorts.get().Contains(dest.Port()) {
		lent = lendPort(fd)
	}
	return lent, unix.Connect(fd, sa)
}

// errStalePorts is why a socket with a port outside LocalPorts is worth another
// attempt: the local port range was another when it was last read.
var errStalePorts = errors.New("the local port range has changed")

// look refuses a socket that is connected to itself, or is about to be, or has
// a port that LocalPorts do not allow, and has its close(2) send a reset, so that
// it leaves no TIME_WAIT. It fails where it cannot tell.
func (g *guard) look(fd int, dest destination, fixed bool) error {
	err := g.lookAt(fd, dest, fixed)
	if err != nil {
		resetOnClose(fd)
	}
	return err
}

func (g *guard) lookAt(fd int, dest destination, fixed bool) error {
	local, err := sockname(fd)
	if err != nil {
		return err
	}
	if !fixed {
		if err := g.checkPort(local.Port()); err != nil {
			return fmt.Errorf("%w: %w", err, errStalePorts)
		}
	}
	if local.Port() != dest.Port() {
		return nil
	}
	peer, err := peername(fd)
	if errors.Is(err, unix.ENOTCONN) {
		// Still connecting, but the kernel has picked the port already.
		peer, err = dest.AddrPort, nil
	}
	if err == nil && sameEnd(local, peer) {
		return ErrSelfConnect
	}
	return err
}

// prepare sets up a socket that net is about to bind and connect: its port is
// picked by connect(2), from one window, and whoever closes it before it has
// been looked at leaves nothing behind. That includes net, which discards the
// self-connections that it sees by a plain close.
func (g *guard) prepare(fd int, dest destination, address string) error {
	if !dest.udp {
		g.prepareReset(fd)
	}
	if !g.portFree() {
		return nil
	}
	if g.ports != (PortRange{}) {
		// net connects, so that a stale range would show only after that.
		localPorts.forget()
	}
	around, err := g.around(dest.Port(), g.allowed(fd))
	if err != nil {
		return err
	}
	if !dest.udp {
		bindAddressOnly(fd)
	}
	if len(around) > 0 {
		_, err = g.narrow(fd, g.nextWindow(address, around))
	}
	return err
}

// prepareReset has a close reset the connection, unless the caller's hook has
// said how it shall close.
func (g *guard) prepareReset(fd int) {
	if g.control != nil {
		if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_LINGER); err != nil || on != 0 {
			return
		}
	}
	resetOnClose(fd)
	g.lingers.Store(true)
}

// nextWindow picks one of the windows for an address, not the same twice in a
// row if there are two.
func (g *guard) nextWindow(address string, windows []PortRange) PortRange {
	g.mu.Lock()
	defer g.mu.Unlock()
	window := windows[0]
	if len(windows) > 1 && window == g.last[address] {
		window = windows[1]
	}
	if g.last == nil {
		g.last = make(map[string]PortRange)
	}
	g.last[address] = window
	return window
}
