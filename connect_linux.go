package safedial

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
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
func (g *guard) install(nd *net.Dialer) {
	nd.Control, nd.ControlContext = nil, g.hook
	if g.alone && g.local != nil {
		nd.LocalAddr = nil
	}
	g.connects = g.alone || g.local == nil
}

// hook is net.Dialer.ControlContext: the caller's hook, then the guard.
func (g *guard) hook(ctx context.Context, network, address string, c syscall.RawConn) error {
	if g.control != nil {
		if err := g.control(ctx, network, address, c); err != nil {
			return err
		}
	}
	if g.alone && g.local != nil && network != "tcp4" && network != "tcp6" {
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
			g.prepare(int(fd), dest, address)
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
		err = unix.Connect(fd, dest.sockaddr(fd))
	} else {
		lent, err = connectBeside(fd, dest, allowed)
	}
	switch err {
	case nil, unix.EINPROGRESS, unix.EALREADY, unix.EISCONN, unix.EINTR:
		err = look(fd, dest)
	default:
		err = os.NewSyscallError("connect", err)
	}
	if err == nil {
		if lent {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
		}
		return nil
	}
	if g.alone {
		return err
	}
	noPort := unavailable(err)
	if !fixed && (noPort || err == ErrSelfConnect) {
		localPorts.forget()
		g.repeat(err)
	}
	if noPort {
		return held{err}
	}
	return err
}

// choice returns the ports that the kernel may pick from as far as the caller is
// concerned, or that the port is fixed because the socket has one.
func (g *guard) choice(fd int, dest destination) (allowed PortRange, fixed bool, err error) {
	allowed = everyPort
	if g.control != nil {
		local, err := sockname(fd)
		if err != nil {
			return PortRange{}, false, err
		}
		allowed, fixed = narrowed(fd), local.Port() != 0
	}
	if g.local != nil {
		if err := bind(fd, g.local, dest.v6); err != nil {
			return PortRange{}, false, err
		}
		fixed = fixed || g.local.Port != 0
	}
	return allowed, fixed, nil
}

// connectBeside connects from the first window around the destination's port
// that has a free port. Where the kernel takes no window, or no port is left
// beside the destination's, the look alone keeps the promise: there the socket
// lends its port, by SO_REUSEADDR, to a server that binds it in the moment that
// a self-connection lives.
func connectBeside(fd int, dest destination, allowed PortRange) (lent bool, err error) {
	sa := dest.sockaddr(fd)
	system := localPorts.get()
	around := windows(dest.Port(), system, allowed)
	for _, window := range around {
		if narrow(fd, window) != nil {
			around = nil
			break
		}
		if err = unix.Connect(fd, sa); err != unix.EADDRNOTAVAIL {
			return false, err
		}
	}
	if len(around) > 0 {
		return false, err
	}
	if system.Contains(dest.Port()) {
		lent = lendPort(fd)
	}
	return lent, unix.Connect(fd, sa)
}

// lendPort sets SO_REUSEADDR, and reports whether it was not set before.
func lendPort(fd int) bool {
	on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR)
	if err != nil || on != 0 {
		return false
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) == nil
}

// look refuses a socket that is connected to itself, or is about to be, and has
// its close(2) send a reset, so that it leaves no TIME_WAIT. It fails where it
// cannot tell.
func look(fd int, dest destination) error {
	local, err := sockname(fd)
	if err == nil {
		if local.Port() != dest.Port() {
			return nil
		}
		var peer netip.AddrPort
		peer, err = peername(fd)
		if errors.Is(err, unix.ENOTCONN) {
			// Still connecting, but the kernel has picked the port already.
			peer, err = dest.AddrPort, nil
		}
		if err == nil && sameEnd(local, peer) {
			err = ErrSelfConnect
		}
	}
	if err != nil {
		resetOnClose(fd)
	}
	return err
}

// prepare sets up a socket that net is about to bind and connect: its port is
// picked by connect(2), from one window, and whoever closes it before it has
// been looked at leaves nothing behind. That includes net, which discards the
// self-connections that it sees by a plain close.
func (g *guard) prepare(fd int, dest destination, address string) {
	allowed, lingers := everyPort, false
	if g.control != nil {
		on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_LINGER)
		allowed, lingers = narrowed(fd), err == nil && on != 0
	}
	if !lingers {
		resetOnClose(fd)
		g.lingers.Store(true)
	}
	if g.local.Port != 0 {
		return
	}
	bindAddressOnly(fd)
	if window := g.nextWindow(address, windows(dest.Port(), localPorts.get(), allowed)); window != (PortRange{}) {
		_ = narrow(fd, window)
	}
}

// nextWindow picks one of the windows for an address, not the same twice in a
// row if there are two.
func (g *guard) nextWindow(address string, windows []PortRange) PortRange {
	if len(windows) == 0 {
		return PortRange{}
	}
	g.lastMu.Lock()
	defer g.lastMu.Unlock()
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

// bind binds the socket to local as net does, but leaves the port to connect(2)
// if it is 0.
func bind(fd int, local *net.TCPAddr, v6 bool) error {
	if local.Port == 0 {
		bindAddressOnly(fd)
	}
	addr := local.AddrPort().Addr().Unmap()
	var sa unix.Sockaddr
	switch {
	case v6 && addr.Is6():
		sa = &unix.SockaddrInet6{Port: local.Port, ZoneId: zoneID(fd, addr.Zone()), Addr: addr.As16()}
	case !v6 && addr.Is4():
		sa = &unix.SockaddrInet4{Port: local.Port, Addr: addr.As4()}
	case v6 && isWildcard(addr):
		sa = &unix.SockaddrInet6{Port: local.Port}
	case isWildcard(addr):
		sa = &unix.SockaddrInet4{Port: local.Port}
	default:
		return &net.AddrError{Err: "no suitable address found", Addr: local.String()}
	}
	return os.NewSyscallError("bind", unix.Bind(fd, sa))
}

func isWildcard(addr netip.Addr) bool { return !addr.IsValid() || addr.IsUnspecified() }

// bindAddressOnly has bind(2) with port 0 take no port (Linux 4.2); connect(2)
// then picks one that is free for its 4-tuple. Where the kernel refuses, bind(2)
// picks, as it does for net.Dialer.
func bindAddressOnly(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
}

// resetOnClose has close(2) send a reset instead of going through TIME_WAIT.
// Nothing is left to do where it fails.
func resetOnClose(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 0})
}
