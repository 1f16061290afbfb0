// Package safedial is a drop-in replacement for [net.Dialer] whose connections
// always have a real peer. A socket can connect to itself: when a program dials
// a local port that nobody has, the kernel may pick that very port as the local
// one. safedial has the kernel pick another, looks at what it picked, resets a
// socket that is connected to itself so that the port is free at once, and
// reports "connection refused". Linux gets all of it, TCP and UDP (from 6.3 on the
// kernel is told not to pick the port); elsewhere net.Dialer dials and the result
// is checked. Resolution, Happy Eyeballs, deadlines and the connections themselves
// are package net's. It does not filter addresses, does not see through NAT, and
// lets two processes connect to each other.
//
// Replace net.Dialer by name, or hand over a method:
//
//	d := safedial.Dialer{Timeout: 5 * time.Second}
//	conn, err := d.DialContext(ctx, "tcp", "127.0.0.1:40000")
//	client := http.Client{Transport: &http.Transport{DialContext: d.DialContext}}
//	tlsDialer := tls.Dialer{NetDialer: d.NetDialer()}
package safedial

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// A Dialer connects to addresses as a [net.Dialer] does, and never returns a TCP
// or UDP connection to itself. Its fields are those of net.Dialer, with the same
// meaning, and a few more.
//
// The zero value is ready to use and equals the package's Dial functions. A
// Dialer's methods may be called concurrently; its fields must not be changed
// while one runs. A Dialer may be copied.
type Dialer struct {
	// Timeout is the longest time a whole dial may take: resolution, every
	// address, every retry and the pauses between them. With several addresses
	// net divides what is left among them.
	//
	// Zero means no timeout; the operating system has its own. With a negative
	// one every dial fails at once with a timeout, as net.Dialer's does.
	Timeout time.Duration

	// Deadline is the time after which a dial fails, retries included. With
	// Timeout or a context's deadline the earliest holds. Zero means none.
	Deadline time.Time

	// LocalAddr is the address to dial from, of the network's type: a *net.TCPAddr
	// for TCP. If nil, or a nil pointer, the kernel picks the address and the port.
	//
	// A TCP address with port 0 leaves the port to the kernel. On Linux 4.2 and
	// later the kernel then picks it when the socket connects, so that one port
	// serves many destinations, where net.Dialer has it picked before, for one.
	// With another port a dial that connects to itself is not retried, for it
	// would get the same port again. net itself dials up to three times from
	// port 0 before it reports a failure; MaxRetries counts these.
	LocalAddr net.Addr

	// DualStack has no effect; RFC 6555 Fast Fallback is on by default.
	//
	// Deprecated: Set FallbackDelay to a negative value to disable Fast Fallback.
	DualStack bool

	// FallbackDelay is how long a TCP dial of a name with addresses of both
	// families waits for the first family before it tries the other beside it
	// (Happy Eyeballs, RFC 6555). Zero means 300 ms; a negative value means that
	// the addresses are tried one after the other.
	FallbackDelay time.Duration

	// KeepAlive is the interval between TCP keep-alive probes, ignored if
	// KeepAliveConfig.Enable is true. Zero means net's default of 15 seconds; a
	// negative value turns the probes off.
	KeepAlive time.Duration

	// KeepAliveConfig configures TCP keep-alive probes if its Enable is true. If
	// it is false and KeepAlive is negative, there are no probes.
	KeepAliveConfig net.KeepAliveConfig

	// Resolver looks names up. Nil means [net.DefaultResolver]. A retry looks the
	// name up again. The resolver's own sockets are not dialled by this Dialer.
	Resolver *net.Resolver

	// Cancel cancels a dial, its retries included, when it is closed. Nil means
	// never.
	//
	// Deprecated: Use DialContext.
	Cancel <-chan struct{}

	// Control is called for each socket after it is created and before it is
	// bound or connected, with the network "tcp4" or "tcp6" (or "udp4", …) and
	// the address it will connect to; its error ends the attempt at that
	// address. Nil means none, and it is ignored if ControlContext is not nil.
	//
	// It is called as net.Dialer would call it, once more for each retry, and
	// before safedial touches the socket. What it does to the socket stands: if
	// it binds the socket, its port is kept and a dial that connects to itself
	// is not retried; if it sets IP_LOCAL_PORT_RANGE, the kernel's choice stays
	// inside that range as well.
	Control func(network, address string, c syscall.RawConn) error

	// ControlContext is Control with the context of the dial, which ends with
	// the time allotted to this address. Nil means that Control is called.
	ControlContext func(ctx context.Context, network, address string, c syscall.RawConn) error

	// MaxRetries is how many times a dial is repeated that ended in a
	// self-connection, or found no local port (EADDRNOTAVAIL from connect, which
	// is spurious at times, and passes when another socket closes). Each address
	// gets at most 1+MaxRetries sockets, with Multipath TCP the double; for
	// LocalAddr see there. Zero means 2, as in net; a negative value means that no
	// dial is repeated.
	//
	// A self-connection is retried at once. So is EADDRNOTAVAIL twice, as by net;
	// then a pause comes first: 1 ms, then twice the one before, at most 128 ms.
	MaxRetries int

	// OnRetry, if not nil, is called before each repeated attempt, and before the
	// pause that precedes it, in the goroutine that dials; the dial waits for it.
	// The context is the one the dial was called with, bounded by Timeout and
	// Deadline. It may be called concurrently by concurrent dials.
	OnRetry func(ctx context.Context, r Retry)

	// LocalPorts narrows the kernel's choice of local port, for TCP and UDP: to keep
	// clear of a port that this program serves, or to match a rule of a firewall.
	// The kernel picks from it, from the local port range, and beside the
	// destination's port. Zero means no narrowing. A port that LocalAddr or Control
	// names is not the kernel's choice and may lie anywhere.
	//
	// It needs Linux 6.3, for Multipath TCP 6.8. Elsewhere, and where a sandbox
	// refuses IP_LOCAL_PORT_RANGE, a dial fails before it connects, with an error
	// that matches [errors.ErrUnsupported]. It also fails if LocalPorts have no port
	// in the local port range but the destination's, or Low is above High.
	LocalPorts PortRange

	mptcp mptcpUse
}

// A Retry says which dial is about to be repeated and why.
type Retry struct {
	// Network and Address are what the dial was called with.
	Network, Address string

	// Attempt is how many attempts have failed so far, from 1.
	Attempt int

	// Err is why the dial is repeated. It matches [ErrSelfConnect], or
	// syscall.EADDRNOTAVAIL; syscall.EADDRINUSE where bind(2) found no port for a
	// LocalAddr of port 0; or neither, if the kernel picked a port outside of
	// LocalPorts because the local port range had changed.
	Err error
}

// mptcpUse is what SetMultipathTCP said.
type mptcpUse uint8

const (
	mptcpDefault mptcpUse = iota
	mptcpOn
	mptcpOff
)

// MultipathTCP reports whether TCP dials ask for Multipath TCP (RFC 8684):
// what SetMultipathTCP said, else net's default, which GODEBUG=multipathtcp
// can change. It does not tell whether the system has it.
func (d *Dialer) MultipathTCP() bool {
	nd := d.settings()
	return nd.MultipathTCP()
}

// SetMultipathTCP makes TCP dials use Multipath TCP, or not, whatever the
// default is. Where the system or the server lacks it, dials fall back to TCP.
// It must not be called while a dial runs.
func (d *Dialer) SetMultipathTCP(use bool) {
	d.mptcp = mptcpOff
	if use {
		d.mptcp = mptcpOn
	}
}

// settings returns a net.Dialer with the fields that the two have in common.
func (d *Dialer) settings() net.Dialer {
	nd := net.Dialer{
		Timeout:         d.Timeout,
		Deadline:        d.Deadline,
		LocalAddr:       d.LocalAddr,
		DualStack:       d.DualStack, //lint:ignore SA1019 net.Dialer has it too
		FallbackDelay:   d.FallbackDelay,
		KeepAlive:       d.KeepAlive,
		KeepAliveConfig: d.KeepAliveConfig,
		Resolver:        d.Resolver,
		Cancel:          d.Cancel, //lint:ignore SA1019 net.Dialer has it too
		Control:         d.Control,
		ControlContext:  d.ControlContext,
	}
	if d.mptcp != mptcpDefault {
		nd.SetMultipathTCP(d.mptcp == mptcpOn)
	}
	return nd
}

// NetDialer returns a net.Dialer with the same settings and, on Linux, the
// guard, for code that takes nothing else, such as [crypto/tls.Dialer]. Later
// changes to d do not reach it.
//
// On Linux it never returns a TCP or UDP connection to itself: such a dial fails
// with an error that matches [ErrSelfConnect], without a retry. The retries are
// net's (two without a pause, after EADDRNOTAVAIL), whatever MaxRetries says, and
// OnRetry is not called. LocalAddr moves from its field into the guard, so errors
// do not name it. Elsewhere it is a net.Dialer and no more: there is no place to
// check its result.
func (d *Dialer) NetDialer() *net.Dialer {
	nd := d.settings()
	g := new(guard)
	g.set(d, d.LocalAddr)
	g.alone = true
	if err := g.install(&nd); err != nil {
		nd.ControlContext = func(context.Context, string, string, syscall.RawConn) error { return err }
	}
	return &nd
}

// Dial connects to the address on the named network as [net.Dialer.Dial] does;
// it is DialContext with [context.Background].
func (d *Dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialContext connects to the address on the named network, with the networks,
// the addresses, the connections and the errors of [net.Dialer.DialContext]. TCP
// and UDP are guarded; IP and Unix networks get net.Dialer's own dial.
//
// A dial that ends in a self-connection, or finds no local port, is repeated up
// to MaxRetries times. The error of the last self-connection is a
// *[net.OpError] that matches [ErrSelfConnect] and [syscall.ECONNREFUSED].
//
// The context must not be nil. It bounds the whole dial; its end does not touch
// a connection that has been returned.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return d.dial(ctx, call{network: network, address: address}, d.LocalAddr)
}

// DialTCP connects to raddr from laddr on the network "tcp", "tcp4" or "tcp6", with
// the guard and the retries of DialContext. It does not use d.LocalAddr.
//
// With every Go release it treats the addresses as net.Dialer of Go 1.27 does
// (https://go.dev/issue/81620). If laddr is not valid, whatever its port, the socket
// is not bound. If laddr is valid and its port is 0, the kernel picks the port. If
// raddr is not valid, the error is net's "missing address". If raddr is "::", the
// dial does not fall back to IPv4.
//
// Before Go 1.27 a dial with an invalid laddr reports to [net/http/httptrace].
func (d *Dialer) DialTCP(ctx context.Context, network string, laddr, raddr netip.AddrPort) (*net.TCPConn, error) {
	var local *net.TCPAddr
	if laddr.IsValid() {
		local = net.TCPAddrFromAddrPort(laddr)
	}
	if !raddr.IsValid() {
		return net.DialTCP(network, local, nil)
	}
	remote := net.TCPAddrFromAddrPort(raddr).String()
	c := call{method: callDialTCP, network: network, address: remote, laddr: laddr, raddr: raddr}
	return typed[*net.TCPConn](d.dial(ctx, c, local))
}

// DialUDP is to UDP what DialTCP is to TCP.
func (d *Dialer) DialUDP(ctx context.Context, network string, laddr, raddr netip.AddrPort) (*net.UDPConn, error) {
	var local *net.UDPAddr
	if laddr.IsValid() {
		local = net.UDPAddrFromAddrPort(laddr)
	}
	if !raddr.IsValid() {
		return net.DialUDP(network, local, nil)
	}
	remote := net.UDPAddrFromAddrPort(raddr).String()
	c := call{method: callDialUDP, network: network, address: remote, laddr: laddr, raddr: raddr}
	return typed[*net.UDPConn](d.dial(ctx, c, local))
}

// DialIP is [net.Dialer.DialIP] with the same settings. With every Go release an
// address that is not valid means what it means to DialTCP.
func (d *Dialer) DialIP(ctx context.Context, network string, laddr, raddr netip.Addr) (*net.IPConn, error) {
	var local *net.IPAddr
	if laddr.IsValid() {
		local = &net.IPAddr{IP: laddr.AsSlice(), Zone: laddr.Zone()}
	}
	if !raddr.IsValid() {
		return net.DialIP(network, local, nil)
	}
	nd := d.settings()
	conn, err := nd.DialIP(ctx, network, laddr, raddr)
	if local == nil {
		// Go 1.26 binds the unspecified address; an IP socket shows that in its errors alone.
		err = readdressed(err, network, nil, &net.IPAddr{IP: raddr.AsSlice(), Zone: raddr.Zone()})
	}
	return conn, err
}

// DialUnix is [net.Dialer.DialUnix] with the same settings.
func (d *Dialer) DialUnix(ctx context.Context, network string, laddr, raddr *net.UnixAddr) (*net.UnixConn, error) {
	nd := d.settings()
	return nd.DialUnix(ctx, network, laddr, raddr)
}

// Dial connects as [net.Dial] does, with a zero [Dialer].
func Dial(network, address string) (net.Conn, error) {
	return new(Dialer).Dial(network, address)
}

// DialTimeout connects as [net.DialTimeout] does. The timeout bounds the whole
// dial, retries included; zero means none, and a negative one fails at once.
func DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	d := Dialer{Timeout: timeout}
	return d.Dial(network, address)
}

// DialContext connects with a zero [Dialer] and the context, in the form that
// [net/http.Transport] and others take a dial function.
func DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return new(Dialer).DialContext(ctx, network, address)
}

// DialTCP connects as [net.DialTCP] does, guarded. If laddr is nil, the kernel picks
// the local address and port.
func DialTCP(network string, laddr, raddr *net.TCPAddr) (*net.TCPConn, error) {
	local, remote := orUnspecified(laddr), orUnspecified(raddr)
	if !remote.IsValid() || laddr != nil && !local.IsValid() {
		// net refuses these before it connects, with the error to return.
		return net.DialTCP(network, laddr, raddr)
	}
	conn, err := new(Dialer).DialTCP(context.Background(), network, local, remote)
	if laddr == nil {
		return conn, readdressed(err, network, nil, raddr)
	}
	return conn, readdressed(err, network, laddr, raddr)
}

// orUnspecified returns addr, which to net is the unspecified address if it has no
// IP. A netip.AddrPort without one is not valid.
func orUnspecified(addr *net.TCPAddr) netip.AddrPort {
	if addr != nil && len(addr.IP) == 0 {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(addr.Port))
	}
	return addr.AddrPort()
}

// readdressed returns err, from net, as the error of a dial from source to addr.
func readdressed(err error, network string, source, addr net.Addr) error {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok {
		return err
	}
	return dialError(network, source, addr, op.Err)
}
