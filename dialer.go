// Package safedial provides a replacement for [net.Dialer] that never returns a TCP or
// UDP connection that is connected to itself.
//
// When a program dials a port of its own host on which nothing listens, the kernel may
// choose that port as the source port. The socket then connects to itself: the program
// receives what it sends, and after it has closed the connection, no server can listen on
// the port for a minute.
//
// On Linux, safedial connects TCP sockets itself, looks at both ends, and undoes a
// connection of a socket to itself, which frees the port immediately. From Linux 6.3 on it
// also asks the kernel for another port. On other systems, and for UDP, it looks at the
// connection that net.Dialer returns. If every retry is a self-connection, the dial fails
// with "connection refused". Name resolution, Happy Eyeballs, deadlines and the
// connections themselves are package net's.
//
// safedial does not filter addresses, does not see through NAT, and does not prevent two
// sockets from connecting to each other. To keep ordinary connections off a server's port,
// use AvoidPorts.
//
// Replace net.Dialer with safedial.Dialer, or pass a method:
//
//	d := &safedial.Dialer{Timeout: 5 * time.Second}
//	conn, err := d.DialContext(ctx, "tcp", "127.0.0.1:40000")
//
//	transport := http.DefaultTransport.(*http.Transport).Clone()
//	transport.DialContext = d.DialContext
//
//	tlsDialer := tls.Dialer{NetDialer: d.NetDialer()}
package safedial

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// A Dialer contains options for connecting to an address. It acts like a
// [net.Dialer], and never returns a TCP or UDP connection that is connected to
// itself. The fields of net.Dialer have the same meaning here.
//
// The zero value is ready to use. Dialing with it is equivalent to calling the
// package's Dial functions. A Dialer's methods may be called concurrently; its
// fields must not be changed while a method runs. A Dialer may be copied.
type Dialer struct {
	// Timeout is the maximum time that a dial takes: name resolution, all
	// addresses, all retries and the pauses between them. With several addresses,
	// net divides the time that is left among them.
	//
	// If zero, there is no timeout; the operating system may impose its own. If
	// negative, every dial fails immediately with a timeout error.
	Timeout time.Duration

	// Deadline is the time after which dials fail, retries included. If Timeout or
	// the context's deadline ends earlier, that one applies. If zero, there is no
	// deadline.
	Deadline time.Time

	// LocalAddr is the address to dial from. It must be of the network's type, such
	// as a *net.TCPAddr for TCP; otherwise dials fail. If nil, or a nil pointer,
	// the system chooses the address and the port.
	//
	// If its port is 0, the system chooses the port. For TCP on Linux 4.2 and
	// later, it does so when the socket connects, so that connections to different
	// destinations can share a local port. Otherwise it does so when the socket is
	// bound; if no port is left, the error matches EADDRINUSE. If its port is not
	// 0, a self-connection is not retried, because a retry would use the same port.
	//
	// On Linux, safedial binds TCP sockets to LocalAddr itself. If its IP is not the
	// unspecified address, [net/http/httptrace] and Resolver get the network with the
	// family of that IP, such as "tcp4" instead of "tcp". If its IP is "::", a TCP
	// socket that dials an IPv4 address is an IPv4 socket.
	LocalAddr net.Addr

	// DualStack has no effect: RFC 6555 Fast Fallback is enabled by default.
	//
	// Deprecated: To disable Fast Fallback, set FallbackDelay to a negative value.
	DualStack bool

	// FallbackDelay is the time that a TCP dial of a name with addresses of both
	// families waits for the first family before it also tries the other (Happy
	// Eyeballs, RFC 6555). If zero, it is 300 ms. If negative, the addresses are
	// tried one after the other.
	FallbackDelay time.Duration

	// KeepAlive is the interval between keep-alive probes, if the protocol and the
	// operating system support them. It is ignored if KeepAliveConfig.Enable is
	// true. If zero, net's default of 15 seconds applies. If negative, keep-alive
	// probes are disabled.
	KeepAlive time.Duration

	// KeepAliveConfig configures keep-alive probes if its Enable field is true. If
	// Enable is false and KeepAlive is negative, keep-alive probes are disabled.
	KeepAliveConfig net.KeepAliveConfig

	// Resolver resolves names. If nil, [net.DefaultResolver] is used. Its own
	// connections are not made by this Dialer.
	Resolver *net.Resolver

	// Cancel cancels a dial, its retries included, when it is closed. If nil, dials
	// are not canceled.
	//
	// Deprecated: Use DialContext instead.
	Cancel <-chan struct{}

	// Control is called after a socket is created and before it is bound or
	// connected. The network is the socket's, such as "tcp4" or "udp6", and
	// the address is the one that it will connect to. If Control returns an error,
	// the dial of this address fails with it. With Happy Eyeballs one dial may call
	// it from two goroutines. If nil, or if ControlContext is not nil, Control is not
	// called.
	//
	// Control is called once for each socket. On Linux, it is called again with the
	// same TCP socket after a connection was undone, because the socket has lost some
	// options with it; those set by an earlier call may persist. If that call fails,
	// the dial goes on with another socket. A UDP dial may use several sockets: see
	// MaxRetries and AvoidPorts.
	//
	// If Control binds the socket to a port, that port is used; on Linux, a
	// self-connection is then not retried. If Control sets IP_LOCAL_PORT_RANGE, the
	// port is chosen from that range.
	Control func(network, address string, c syscall.RawConn) error

	// ControlContext is like Control, with the context of the dial of this address.
	// If nil, Control is called.
	ControlContext func(ctx context.Context, network, address string, c syscall.RawConn) error

	// MaxRetries is the maximum number of times that the dial of an address is
	// retried after a self-connection, or after the system found no local port. With
	// Multipath TCP, it applies to the Multipath TCP socket and to the TCP socket
	// that follows if that fails. If zero, it is 2, as in package net. If negative,
	// dials are not retried.
	//
	// The first two retries follow immediately; on Linux, those of a TCP dial use the
	// same socket. If all addresses have failed then, each further retry dials all of
	// them again, after a pause: 1 ms, then twice as long each time, up to 128 ms. With
	// a large number, a dial is retried until the context ends, about eight times a
	// second; each retry searches all ports once more. If the host has no source
	// address for a destination, the dial does not wait for it. If dials often find no
	// port, close connections earlier, let them be reused, or widen the local port
	// range.
	//
	// A UDP dial that got the destination's port at once makes a second socket while
	// the first is open, so that the system chooses another port. That is no retry. On
	// systems other than Linux, a retry is a dial of all addresses, and package net by
	// itself dials a TCP address up to three times before that.
	MaxRetries int

	// OnRetry is called before each retry, and before the pause that precedes it.
	// The retry waits for it to return. With Happy Eyeballs one dial may call it
	// from two goroutines, and one of them may outlive the dial. If nil, it is not
	// called.
	//
	// On Linux, OnRetry must not end its goroutine, by a panic or by
	// [runtime.Goexit]: as with Control, the socket would stay open.
	OnRetry func(ctx context.Context, r Retry)

	// LocalPorts limits the system's choice of the local port, for TCP and UDP: to keep clear of
	// ports that this program listens on, or to match a firewall rule. The port is chosen from
	// LocalPorts and from the system's [LocalPortRange]. The destination's own port comes last,
	// and not at all if the destination is 127.0.0.1 or ::1. If zero, there is no limit. A Low
	// of 0 means 1. It does not apply to a port that LocalAddr or Control specifies, nor to IP
	// and Unix networks.
	//
	// LocalPorts requires IP_LOCAL_PORT_RANGE: Linux 6.3, or 6.8 for Multipath TCP.
	// Without it, dials for which the system chooses the port fail with an error
	// that matches [errors.ErrUnsupported]; on systems other than Linux, all TCP
	// and UDP dials do. They also fail if Low is greater than High, or if there is
	// no port to choose from; the error says whether the local port range, the
	// reserved ports or the caller's own range leaves none.
	LocalPorts PortRange

	// AvoidPorts are ports that the system must not choose as the local port, for TCP
	// and UDP, such as those that this program listens on from time to time:
	// Ports(40000, 40002), a range such as {Low: 30000, High: 32767}, or the result of
	// [ReservedPorts]. If empty, there is no limit. Order and overlaps do not matter.
	// A Low of 0 means 1, and the zero PortRange is ignored. AvoidPorts has the same
	// requirements, exceptions and errors as LocalPorts.
	//
	// The ports to avoid split the others into parts, and the kernel can be told one
	// part at a time. If one has no port left, the next is tried, which is no retry: on
	// the same socket for TCP, on another one for UDP.
	AvoidPorts []PortRange

	multipath net.Dialer // which holds what SetMultipathTCP has set
}

// MultipathTCP reports whether TCP dials use Multipath TCP (RFC 8684): as set by
// SetMultipathTCP, or net's default, which GODEBUG=multipathtcp changes. It does not
// check whether the system supports it.
func (d *Dialer) MultipathTCP() bool {
	return d.multipath.MultipathTCP()
}

// SetMultipathTCP makes TCP dials use Multipath TCP, or not use it, regardless of
// the default. If the system or the server does not support it, dials use TCP. It
// must not be called while another method runs.
func (d *Dialer) SetMultipathTCP(use bool) {
	d.multipath.SetMultipathTCP(use)
}

// NetDialer returns a net.Dialer with d's settings, for APIs that require one, such
// as [crypto/tls.Dialer]. Later changes to d do not affect it.
//
// On Linux, its TCP dials prevent self-connections, retry as d does, and call OnRetry. It
// differs from d as follows:
//
//   - For UDP, it tells the kernel one range of ports beside the destination's, if the
//     kernel has IP_LOCAL_PORT_RANGE, and does nothing else: no retry, and no look at the
//     connection. If LocalPorts or AvoidPorts are set, a dial fails rather than ignore
//     them.
//   - The retries after the second, and their pauses, are those of one address. The other
//     addresses of a name wait for them.
//   - A LocalAddr for TCP must be set on d: its own is nil then, and so is its Control,
//     because ControlContext is set. If LocalAddr is set on the result, or its DialTCP is
//     called with a laddr, TCP dials fail with EINVAL.
//   - With a LocalAddr of one family, the dial of a name may return the error of an
//     address of the other family; use "tcp4" or "tcp6".
//   - Errors of TCP dials do not include LocalAddr, and one that matches EADDRNOTAVAIL has
//     one more link in its chain.
//
// On other systems, the result is a net.Dialer with the same settings, and nothing
// else. If LocalPorts or AvoidPorts are set, its TCP and UDP dials fail.
func (d *Dialer) NetDialer() *net.Dialer {
	nd := d.settings()
	limits, err := d.portLimits()
	if err == nil {
		d.guard(&nd, limits)
		return &nd
	}
	nd.ControlContext = func(_ context.Context, network, _ string, _ syscall.RawConn) error {
		if isTCP(network) || isUDP(network) {
			return err
		}
		return nil
	}
	return &nd
}

// Dial connects to the address on the named network. It acts like DialContext with
// [context.Background].
func (d *Dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialTimeout acts like Dial with a timeout instead of d.Timeout. With it, d implements
// the Dialer interface of github.com/lib/pq. d.Deadline still applies. If the timeout
// is zero, there is none. If it is negative, the dial fails immediately.
func (d *Dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	limited := *d
	limited.Timeout = timeout
	return limited.Dial(network, address)
}

// DialContext connects to the address on the named network using the context. It
// acts like [net.Dialer.DialContext], with its networks, addresses, connections and
// errors. On TCP and UDP networks, it retries up to MaxRetries times after a
// self-connection, or if no local port is left. If the last retry is a
// self-connection too, the error is a *[net.OpError] that matches [ErrSelfConnect]
// and [syscall.ECONNREFUSED].
//
// If ctx is nil, DialContext panics. The context bounds the whole dial. After
// DialContext has returned, it does not affect the connection.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return d.dial(ctx, newTarget(network, address, d.LocalAddr))
}

// DialTCP acts like DialContext for TCP networks, from laddr to raddr. It does not
// use d.LocalAddr. The network must be "tcp", "tcp4" or "tcp6".
//
// With every Go release, it treats addresses as net.Dialer of Go 1.27 does
// (https://go.dev/issue/81620). If laddr is not valid, the socket is not bound,
// whatever laddr's port. If laddr is valid and its port is 0, the system chooses the
// port. If raddr is not valid, the error is net's "missing address". If raddr is
// "::", the dial does not fall back to IPv4. Unlike net's, the dial is reported to
// [net/http/httptrace]. If ctx is nil, DialTCP panics.
func (d *Dialer) DialTCP(ctx context.Context, network string, laddr, raddr netip.AddrPort) (*net.TCPConn, error) {
	if ctx == nil {
		panic("nil context")
	}
	local, remote := tcpAddr(laddr), tcpAddr(raddr)
	if t, ok := addrTarget(network, local, remote); ok && isTCP(network) {
		return asConn[*net.TCPConn](d.dial(ctx, t))
	}
	if remote == nil {
		return net.DialTCP(network, local, nil)
	}
	nd := d.settings()
	conn, err := nd.DialTCP(ctx, network, laddr, raddr)
	return unlessSelf(conn, fromNowhere(err, laddr.IsValid()))
}

// DialUDP acts like [Dialer.DialTCP] for the networks "udp", "udp4" and "udp6". If
// laddr's port is 0, the system chooses the port when the socket is bound.
func (d *Dialer) DialUDP(ctx context.Context, network string, laddr, raddr netip.AddrPort) (*net.UDPConn, error) {
	if ctx == nil {
		panic("nil context")
	}
	local, remote := tcpAddr(laddr), tcpAddr(raddr)
	if t, ok := addrTarget(network, local, remote); ok && isUDP(network) {
		return asConn[*net.UDPConn](d.dial(ctx, t))
	}
	if remote == nil {
		return net.DialUDP(network, (*net.UDPAddr)(local), nil)
	}
	nd := d.settings()
	conn, err := nd.DialUDP(ctx, network, laddr, raddr)
	return unlessSelf(conn, fromNowhere(err, laddr.IsValid()))
}

// DialIP acts like [net.Dialer.DialIP]. With every Go release, it treats an address
// that is not valid as DialTCP does. Self-connections, retries and port limits do
// not apply.
func (d *Dialer) DialIP(ctx context.Context, network string, laddr, raddr netip.Addr) (*net.IPConn, error) {
	if ctx == nil {
		panic("nil context")
	}
	if !raddr.IsValid() {
		var local *net.IPAddr
		if laddr.IsValid() {
			local = &net.IPAddr{IP: laddr.AsSlice(), Zone: laddr.Zone()}
		}
		return net.DialIP(network, local, nil)
	}
	nd := d.settings()
	conn, err := nd.DialIP(ctx, network, laddr, raddr)
	return conn, fromNowhere(err, laddr.IsValid())
}

// DialUnix acts like [net.Dialer.DialUnix]. Self-connections, retries and port
// limits do not apply.
func (d *Dialer) DialUnix(ctx context.Context, network string, laddr, raddr *net.UnixAddr) (*net.UnixConn, error) {
	nd := d.settings()
	return nd.DialUnix(ctx, network, laddr, raddr)
}

// Dial connects to the address on the named network. It acts like [net.Dial], with
// a zero [Dialer], which has no timeout.
func Dial(network, address string) (net.Conn, error) {
	return new(Dialer).Dial(network, address)
}

// DialTimeout acts like Dial with a timeout, which bounds the whole dial, retries
// included. If the timeout is zero, there is none. If it is negative, the dial fails
// immediately.
func DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	return new(Dialer).DialTimeout(network, address, timeout)
}

// DialContext acts like Dial with a context, and has no timeout of its own. It has
// the form in which [net/http.Transport] and others take a dial function.
func DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return new(Dialer).DialContext(ctx, network, address)
}

// DialTCP acts like [net.DialTCP], with a zero [Dialer]. If laddr is nil, the system
// chooses the local address and port. If raddr is nil, the error is net's "missing
// address".
func DialTCP(network string, laddr, raddr *net.TCPAddr) (*net.TCPConn, error) {
	if t, ok := addrTarget(network, laddr, raddr); ok && isTCP(network) {
		return asConn[*net.TCPConn](new(Dialer).dial(context.Background(), t))
	}
	return unlessSelf(net.DialTCP(network, laddr, raddr))
}

// DialUDP acts like [net.DialUDP], with a zero [Dialer]. If laddr is nil, the system
// chooses the local address and port. If raddr is nil, the error is net's "missing
// address".
func DialUDP(network string, laddr, raddr *net.UDPAddr) (*net.UDPConn, error) {
	if t, ok := addrTarget(network, (*net.TCPAddr)(laddr), (*net.TCPAddr)(raddr)); ok && isUDP(network) {
		return asConn[*net.UDPConn](new(Dialer).dial(context.Background(), t))
	}
	return unlessSelf(net.DialUDP(network, laddr, raddr))
}
