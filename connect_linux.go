package safedial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
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
	if g.asHook == nil {
		g.asHook = g.hook
	}
	nd.Control, nd.ControlContext = nil, g.asHook
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
	a := attempts.Get().(*attempt)
	a.guard, a.destination, a.address = g, dest, address
	err := c.Control(a.onSocket)
	if err == nil {
		err = a.err
	}
	a.guard, a.destination, a.address, a.err = nil, destination{}, "", nil
	attempts.Put(a)
	return err
}

// An attempt is the guard's work on one socket. It lasts as long as the hook, which
// is so often that it is reused, with what would have to be allocated for each.
type attempt struct {
	*guard
	destination
	address  string // the destination, as net wrote it
	fd       int
	err      error
	onSocket func(fd uintptr)
	inet4    unix.SockaddrInet4
	inet6    unix.SockaddrInet6
}

var attempts = sync.Pool{New: func() any {
	a := new(attempt)
	a.onSocket = func(fd uintptr) {
		a.fd = int(fd)
		if a.connects {
			a.err = a.connect()
		} else {
			a.err = a.prepare()
		}
	}
	return a
}}

// connect connects the socket from a port other than the destination's, and
// refuses it if it is connected to itself all the same.
func (a *attempt) connect() error {
	allowed, fixed, err := a.choice()
	if err != nil {
		return err
	}
	sa, lent, errno := a.sockaddr(a.AddrPort), false, unix.Errno(0)
	if fixed {
		errno = connect(a.fd, sa)
	} else if lent, errno, err = a.connectBeside(sa, allowed); err != nil {
		return err
	}
	if errno == unix.EINPROGRESS && a.Addr().IsLoopback() {
		// The answer is there already, and a refused socket needs no look.
		errno = connect(a.fd, sa)
	}
	switch errno {
	case 0, unix.EINPROGRESS, unix.EALREADY, unix.EISCONN, unix.EINTR:
		err = a.look(fixed)
	default:
		err = os.NewSyscallError("connect", errno)
	}
	switch {
	case err == nil:
		if lent {
			reclaimPort(a.fd)
		}
		return nil
	case errno == unix.ECONNREFUSED:
		return err // of which there is nothing to consider
	case a.alone || fixed:
		return holdBack(err, fixed)
	}
	return a.consider(err)
}

// connect is connect(2). Unlike an error, its number is quickly compared.
func connect(fd int, sa unix.Sockaddr) unix.Errno {
	errno, _ := errors.AsType[unix.Errno](unix.Connect(fd, sa))
	return errno
}

// consider notes whether another attempt may do better than the one that failed
// with err, and returns what to tell net.
func (a *attempt) consider(err error) error {
	if errors.Is(err, ErrSelfConnect) && a.udp {
		if dup, dupErr := unix.FcntlInt(uintptr(a.fd), unix.F_DUPFD_CLOEXEC, 0); dupErr == nil {
			a.hold(func() { _ = unix.Close(dup) })
		}
	}
	if errors.Is(err, ErrSelfConnect) || unavailable(err) || errors.Is(err, errStalePorts) {
		localPorts.forget()
		a.repeat(err)
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
func (a *attempt) choice() (allowed PortRange, fixed bool, err error) {
	if a.control != nil {
		local, err := sockname(a.fd)
		if err != nil {
			return PortRange{}, false, err
		}
		fixed = local.Port() != 0
	}
	if a.local != nil {
		if err := a.bind(a.local); err != nil {
			return PortRange{}, false, err
		}
		fixed = fixed || !a.portFree()
	}
	return a.allowed(), fixed, nil
}

// allowed returns the ports that both LocalPorts and the caller's hook allow.
func (a *attempt) allowed() PortRange {
	allowed := everyPort
	if a.ports != (PortRange{}) {
		allowed = a.ports
	}
	if a.control != nil {
		allowed = allowed.intersect(narrowed(a.fd))
	}
	return allowed
}

// around returns the windows to connect from, and fails if LocalPorts leave none.
func (a *attempt) around(allowed PortRange) (around, error) {
	found := windows(a.Port(), localPorts.get(), allowed)
	if len(found.list()) > 0 || a.ports == (PortRange{}) {
		return found, nil
	}
	localPorts.forget()
	system := localPorts.get()
	if found = windows(a.Port(), system, allowed); len(found.list()) > 0 {
		return found, nil
	}
	return found, fmt.Errorf("local ports %s: no port of the system's %s beside the destination's %d", a.ports, system, a.Port())
}

// narrow is narrow(fd, window), whose failure matters only to LocalPorts.
func (a *attempt) narrow(window PortRange) (narrowed bool, err error) {
	err = narrow(a.fd, window)
	if err == nil || a.ports == (PortRange{}) {
		return err == nil, nil
	}
	return false, fmt.Errorf("local ports %s, of the system's %s: %w: %w", a.ports, localPorts.get(), errors.ErrUnsupported, os.NewSyscallError("setsockopt", err))
}

// connectBeside connects from the first window around the destination's port
// that has a free port. Where the kernel takes no window, or no port is left
// beside the destination's, the look alone keeps the promise: there a TCP socket
// lends its port, by SO_REUSEADDR, to a server that binds it in the moment that
// a self-connection lives.
func (a *attempt) connectBeside(sa unix.Sockaddr, allowed PortRange) (lent bool, errno unix.Errno, err error) {
	found, err := a.around(allowed)
	if err != nil {
		return false, 0, err
	}
	around := found.list()
	for i, window := range around {
		narrowed, err := a.narrow(window)
		if err != nil {
			return false, 0, err
		}
		if !narrowed {
			break
		}
		errno = connect(a.fd, sa)
		if i == len(around)-1 || errno != unix.EADDRNOTAVAIL && errno != unix.EAGAIN {
			return false, errno, nil
		}
	}
	if !a.udp && localPorts.get().Contains(a.Port()) {
		lent = lendPort(a.fd)
	}
	return lent, connect(a.fd, sa), nil
}

// errStalePorts is why a socket with a port outside LocalPorts is worth another
// attempt: the local port range was another when it was last read.
var errStalePorts = errors.New("the local port range has changed")

// look refuses a socket that is connected to itself, or is about to be, or has
// a port that LocalPorts do not allow, and has its close(2) send a reset, so that
// it leaves no TIME_WAIT. It fails where it cannot tell.
func (a *attempt) look(fixed bool) error {
	err := a.lookAt(fixed)
	if err != nil {
		resetOnClose(a.fd)
	}
	return err
}

func (a *attempt) lookAt(fixed bool) error {
	local, err := sockname(a.fd)
	if err != nil {
		return err
	}
	if !fixed {
		if err := a.checkPort(local.Port()); err != nil {
			return fmt.Errorf("%w: %w", err, errStalePorts)
		}
	}
	if local.Port() != a.Port() {
		return nil
	}
	peer, err := peername(a.fd)
	if errors.Is(err, unix.ENOTCONN) {
		// Still connecting, but the kernel has picked the port already.
		peer, err = a.AddrPort, nil
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
func (a *attempt) prepare() error {
	if !a.udp {
		a.prepareReset()
	}
	if !a.portFree() {
		return nil
	}
	if a.ports != (PortRange{}) {
		// net connects, so that a stale range would show only after that.
		localPorts.forget()
	}
	found, err := a.around(a.allowed())
	if err != nil {
		return err
	}
	if !a.udp {
		bindAddressOnly(a.fd)
	}
	if around := found.list(); len(around) > 0 {
		_, err = a.narrow(a.nextWindow(around))
	}
	return err
}

// prepareReset has a close reset the connection, unless the caller's hook has
// said how it shall close.
func (a *attempt) prepareReset() {
	if a.control != nil {
		if on, err := unix.GetsockoptInt(a.fd, unix.SOL_SOCKET, unix.SO_LINGER); err != nil || on != 0 {
			return
		}
	}
	resetOnClose(a.fd)
	a.lingers.Store(true)
}

// nextWindow picks one of the windows for the address, not the same twice in a
// row if there are two.
func (a *attempt) nextWindow(around []PortRange) PortRange {
	if len(around) == 1 {
		return around[0]
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	window := around[0]
	if window == a.last[a.address] {
		window = around[1]
	}
	if a.last == nil {
		a.last = make(map[string]PortRange)
	}
	a.last[a.address] = window
	return window
}
