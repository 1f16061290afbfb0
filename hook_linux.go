//go:build !safedial_portable

package safedial

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// hookConnects reports whether the hook binds and connects TCP sockets, and can tell a
// socket which local ports to choose from.
const hookConnects = true

// A hook is what net.Dialer calls for each socket of a dial, between socket(2) and
// bind(2): its method control is a ControlContext. It connects TCP sockets. net's own
// connect(2), which follows, finds the socket connecting (EALREADY), connected (EISCONN
// or success) or failed (the pending error), and net goes on as it always does: it waits,
// cancels, sets keep-alive, and returns its own types and errors.
//
// A hook does not change, because with Happy Eyeballs net may call it after the dial has
// returned.
type hook struct {
	caller   controlFunc    // the caller's hook, or nil
	limits   limits         // the ports to choose from
	local    net.Addr       // LocalAddr, for errors
	from     netip.AddrPort // LocalAddr, if the hook binds it; net is not told of it then
	anyIPv4  bool           // the caller's hook is shown 0.0.0.0 for an empty host
	policy   retryPolicy    // for each socket
	record   *record        // of the dial; nil if it needs none
	checked  bool           // a dial checks what net returns; false for a NetDialer
	netBinds bool           // net binds UDP sockets to LocalAddr after the hook
	seed     uint32         // random, to choose the first part of the ports; 0: another for each attempt
	met      uint16         // the port from which a socket before was connected to itself; 0: none
	round    int            // how many sockets the dial has made before, of a name for each address
}

// plainHook is the hook of TCP dials without settings of safedial's own. They share it,
// because a hook of their own costs two allocations.
var plainHook = (&hook{policy: retryPolicy{max: immediateRetries}, checked: true}).control

// setHook has nd call a hook that makes so many retries for each socket. A UDP dial has a
// hook only if there are limits, or if the caller has one. On Linux there is nothing to
// restore on a connection.
func (g *dial) setHook(nd *net.Dialer, hookRetries, round int) (restore func(net.Conn)) {
	l := g.limits
	var from netip.AddrPort
	if isUDP(g.target.network) {
		if addrPort(g.target.local).Port() != 0 {
			l = limits{} // the system does not choose the port
		}
		if g.caller == nil && !l.limited() {
			return nil
		}
	} else {
		var ok bool
		if from, ok = tcpLocal(g.target.local, g.target.network); !ok {
			return nil // net refuses LocalAddr, before it connects
		}
		if !from.IsValid() && g.record == nil && hookRetries == immediateRetries && round == 0 {
			nd.ControlContext = plainHook
			return nil
		}
	}

	h := &hook{
		caller:  g.caller,
		limits:  l,
		local:   g.target.local,
		from:    from,
		anyIPv4: g.target.anyIPv4,
		policy:  retryPolicy{max: hookRetries, onRetry: g.policy.onRetry},
		record:  g.record,
		checked: true,
		seed:    g.seed,
		met:     g.met,
		round:   round,
	}
	if from.IsValid() {
		nd.LocalAddr = nil // net would bind it after the hook, which is too late
	}
	nd.Control, nd.ControlContext = nil, h.control
	return nil
}

// guard makes nd, which has d's settings, the result of NetDialer. Its hook makes all
// retries, with their pauses, because there is no dial around it.
func (d *Dialer) guard(nd *net.Dialer, l limits) {
	h := &hook{caller: d.callersControl(), limits: l, local: nd.LocalAddr, policy: d.policy()}
	from, ok := tcpLocal(nd.LocalAddr, "")
	if !ok {
		return // net refuses LocalAddr, before it connects
	}
	if from.IsValid() {
		h.from, nd.LocalAddr = from, nil
	} else if a, _ := nd.LocalAddr.(*net.UDPAddr); a != nil {
		h.netBinds = true
		if a.Port != 0 {
			h.limits = limits{} // the system does not choose the port
		}
	}
	nd.Control, nd.ControlContext = nil, h.control
}

// control is the ControlContext.
func (h *hook) control(ctx context.Context, network, address string, c syscall.RawConn) error {
	if h.from.IsValid() && !strings.HasPrefix(network, h.local.Network()) {
		return errMismatchedLocalAddr(h.local)
	}
	address = shown(address, h.anyIPv4)
	if !isTCP(network) && !isUDP(network) {
		return h.callCaller(ctx, network, address, c)
	}
	dest, err := parseDestination(network, address)
	if err != nil {
		return err
	}
	if !suits(h.local, dest.addr.Addr()) {
		return errNoSuitableAddress(h.local)
	}

	// The thread is still in the network namespace in which net has made the socket. The
	// caller's hook may leave it in another, so the ports are read before.
	ports := recentPorts()
	if h.limits.limited() {
		ports = readPorts()
	}
	if err := h.callCaller(ctx, network, address, c); err != nil {
		h.record.noteCaller(err)
		return err
	}
	if dest.refusedByNet() {
		return nil
	}
	s := newSocket(h, dest, ports)
	defer s.free()
	return h.connect(ctx, s, network, address, c)
}

// connect connects the socket.
//
// It tries the parts of the ports one after the other. If none of them will do, the
// attempt has failed. If a retry is allowed, it begins with the first part again, on the
// same socket. Only if the socket is of no more use, another one has to go on, and that
// takes another dial.
func (h *hook) connect(ctx context.Context, s *socket, network, address string, c syscall.RawConn) error {
	for retries := 0; ; {
		how := s.try(c)
		if how == settled {
			return s.err
		}

		another := s.choice.advance(s.isSelf) // the next part, which is no retry
		if another && ctx.Err() != nil {
			return endedError(ctx)
		}
		goesOn := how != spent && (another || ctx.Err() == nil && h.mayRetry(s, retries, c))

		// With a connection that was undone, the socket has lost some of the options that
		// the caller's hook has set, so that has to set them again. After EADDRNOTAVAIL it
		// still has them all. The hook is not called then, because a socket takes some
		// options only once: SO_LOCK_FILTER, or SO_BINDTODEVICE without privileges.
		if goesOn && how == undone {
			if h.callCaller(ctx, network, address, c) != nil {
				how, goesOn = spent, false // a new socket will take its options
			}
			s.examined = false
			if ctx.Err() != nil {
				return endedError(ctx)
			}
		}
		if goesOn && another {
			continue
		}

		why := Retry{Network: network, Address: address, Attempt: retries + 1, Err: s.reason}
		if failed := h.record.fail(); failed > 0 {
			why.Attempt = failed
		}
		if !goesOn {
			if h.record != nil && s.worthWaiting(c) {
				h.record.last.Store(&why)
			}
			return s.finalError(how, retries)
		}
		if h.policy.onRetry != nil {
			h.policy.onRetry(ctx, why)
		}
		if err := pause(ctx, retries); err != nil {
			return err
		}
		retries++
		s.begin()
	}
}

// mayRetry reports whether another attempt is allowed after so many retries, and may help.
func (h *hook) mayRetry(s *socket, retries int, c syscall.RawConn) bool {
	return retries < h.policy.max && (retries < immediateRetries || s.worthWaiting(c))
}

// callCaller calls the caller's hook.
func (h *hook) callCaller(ctx context.Context, network, address string, c syscall.RawConn) error {
	if h.caller == nil {
		return nil
	}
	return h.caller(ctx, network, address, c)
}

// A destination is where net is about to connect a socket.
type destination struct {
	addr netip.AddrPort // if its address is unspecified, the host itself
	v6   bool           // the socket is an IPv6 socket
	udp  bool
}

// parseDestination reads the arguments of a hook. The address can be an IPv4
// address with a zone, which netip does not parse and net ignores.
func parseDestination(network, address string) (destination, error) {
	d := destination{v6: network[len(network)-1] == '6', udp: isUDP(network)}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return destination{}, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return destination{}, &net.AddrError{Err: "invalid port", Addr: address}
	}
	ip, zone, _ := strings.Cut(host, "%")
	addr := netip.IPv4Unspecified() // net leaves out an empty host
	if ip != "" {
		if addr, err = netip.ParseAddr(ip); err != nil {
			return destination{}, &net.AddrError{Err: "invalid address", Addr: address}
		}
	}
	if d.v6 && addr == netip.IPv4Unspecified() {
		addr = netip.IPv6Unspecified()
	}
	if addr.Is6() && !addr.IsUnspecified() {
		addr = addr.WithZone(zone)
	}
	d.addr = netip.AddrPortFrom(addr, uint16(number))
	return d, nil
}

// refusedByNet reports whether net is about to refuse the address, because it is not of
// the socket's family. The hook leaves that to net, which has an error for it.
func (d destination) refusedByNet() bool { return !d.v6 && !d.addr.Addr().Is4() }

// zoneID returns the index of the interface that zone names, else the number that
// its leading digits are, as net does. The socket is asked, because its network
// namespace counts. Neither an alias (eth0:1) nor an alternative name is the
// interface's own.
func zoneID(fd int, zone string) uint32 {
	if zone == "" {
		return 0
	}
	if ifr, err := unix.NewIfreq(zone); err == nil && unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr) == nil {
		index := ifr.Uint32()
		if unix.IoctlIfreq(fd, unix.SIOCGIFNAME, ifr) == nil && ifr.Name() == zone {
			return index
		}
	}
	const most = 0xFFFFFF
	digits := zone[:len(zone)-len(strings.TrimLeft(zone, "0123456789"))]
	number, err := strconv.ParseUint(digits, 10, 32)
	if digits != "" && (err != nil || number > most) {
		return most
	}
	return uint32(number)
}
