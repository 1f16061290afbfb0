//go:build !safedial_portable

package safedial

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A descriptor is the file descriptor of a socket. Its methods are the system calls that
// the hook makes, each named after what it does. A dial makes several, so they do not
// allocate: their memory is the descriptor's, and those that may fail in the ordinary course
// of a dial return the number of the error instead of an error.
type descriptor struct {
	fd    int
	v6    bool // an IPv6 socket
	inet4 unix.SockaddrInet4
	inet6 unix.SockaddrInet6
	raw   [unix.SizeofSockaddrInet6]byte
	size  uint32
}

// connect wraps connect(2). Unlike an error, its number is quickly compared.
func (d *descriptor) connect(to netip.AddrPort) unix.Errno {
	err := unix.Connect(d.fd, d.sockaddr(to))
	if err == nil {
		return 0
	}
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		return errno
	}
	return unix.EINVAL
}

// asError returns the error of a system call. Unlike os.NewSyscallError, it returns nil if
// errno is 0, which is an error that is not nil.
func asError(call string, errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return os.NewSyscallError(call, errno)
}

// bind wraps bind(2).
func (d *descriptor) bind(to netip.AddrPort) error {
	return os.NewSyscallError("bind", unix.Bind(d.fd, d.sockaddr(to)))
}

// sockaddr returns the address in the form that the socket's family takes. It is valid
// until the next call. An IPv6 socket takes an IPv4 address in its IPv4-mapped form.
func (d *descriptor) sockaddr(ap netip.AddrPort) unix.Sockaddr {
	if d.v6 {
		d.inet6.Port, d.inet6.ZoneId, d.inet6.Addr = int(ap.Port()), zoneID(d.fd, ap.Addr().Zone()), ap.Addr().As16()
		return &d.inet6
	}
	d.inet4.Port, d.inet4.Addr = int(ap.Port()), ap.Addr().As4()
	return &d.inet4
}

// disconnect dissolves the association of a socket by connect(2) to AF_UNSPEC, as
// connect(2) describes. It leaves no TIME_WAIT. A port that the socket was not bound to
// explicitly is free then, and the socket can connect again.
//
// A TCP socket loses TCP_MAXSEG, TCP_WINDOW_CLAMP, TCP_QUICKACK, TCP_RTO_MIN_US and
// TCP_DELACK_MAX_US by it, a UDP socket SO_BINDTODEVICE. Other options stay.
func (d *descriptor) disconnect() error {
	sa := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(d.fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	if errno != 0 {
		return errno
	}
	// The reset is pending as an error, which a deferred connect (TCP_FASTOPEN_CONNECT)
	// would not clear.
	_, _ = unix.GetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	return nil
}

// local wraps getsockname(2), and peer getpeername(2). Those of package syscall allocate
// the address.
func (d *descriptor) local() (netip.AddrPort, unix.Errno) { return d.addr(unix.SYS_GETSOCKNAME) }

func (d *descriptor) peer() (netip.AddrPort, unix.Errno) { return d.addr(unix.SYS_GETPEERNAME) }

// addr makes one of the two calls. The kernel fills in a struct sockaddr_in or sockaddr_in6,
// whose port is in network byte order (ip(7), ipv6(7)).
func (d *descriptor) addr(call uintptr) (netip.AddrPort, unix.Errno) {
	d.size = uint32(len(d.raw))
	_, _, errno := unix.Syscall(call, uintptr(d.fd), uintptr(unsafe.Pointer(&d.raw)), uintptr(unsafe.Pointer(&d.size)))
	if errno != 0 {
		return netip.AddrPort{}, errno
	}
	addr := netip.AddrFrom4([4]byte(d.raw[4:8])) // struct sockaddr_in, ip(7)
	if d.v6 {
		addr = netip.AddrFrom16([16]byte(d.raw[8:24])) // struct sockaddr_in6, ipv6(7)
	}
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(d.raw[2:4])), 0
}

// setPortRange sets IP_LOCAL_PORT_RANGE, so that the kernel chooses the local port from r;
// the zero PortRange removes the limit. TCP and UDP sockets have the option since Linux 6.3
// (and 6.1.32), MPTCP sockets since 6.8. From 6.8 on it also makes connect(2) search port
// by port instead of one parity first, which keeps the cost of a dial flat when local
// ports run out (https://git.kernel.org/linus/207184853dbd). Before, it never chooses the
// last port of a range of an odd number of ports.
func (d *descriptor) setPortRange(r PortRange) error {
	value := int(uint32(r.High)<<16 | uint32(r.Low))
	err := unix.SetsockoptInt(d.fd, unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE, value)
	return os.NewSyscallError("setsockopt IP_LOCAL_PORT_RANGE", err)
}

// portRange returns what IP_LOCAL_PORT_RANGE holds: the zero PortRange, if it is not set, or
// if the kernel does not have it.
func (d *descriptor) portRange() PortRange {
	value, err := unix.GetsockoptInt(d.fd, unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE)
	if err != nil {
		return PortRange{}
	}
	return PortRange{Low: uint16(value), High: uint16(uint32(value) >> 16)}
}

// setBindAddressNoPort sets IP_BIND_ADDRESS_NO_PORT (Linux 4.2), so that bind(2) with port
// 0 takes no port, and connect(2) chooses one that is free for its 4-tuple. If the kernel
// refuses, bind(2) chooses, as it does for net.Dialer.
func (d *descriptor) setBindAddressNoPort() bool {
	return unix.SetsockoptInt(d.fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1) == nil
}

// setReuseAddr sets SO_REUSEADDR on a TCP socket that does not have it, and reports whether
// it did. An MPTCP socket keeps it off, because Linux 6.1 cannot clear the option once the
// socket is connected.
func (d *descriptor) setReuseAddr() bool {
	on, err := unix.GetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR)
	return err == nil && on == 0 && d.protocol() == unix.IPPROTO_TCP &&
		unix.SetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) == nil
}

// clearReuseAddr reverses setReuseAddr. The option must not stay: what is dialed with
// net.Dialer does not have it, and it would let others bind the port.
func (d *descriptor) clearReuseAddr() {
	_ = unix.SetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
}

// protocol returns the socket's protocol, 0 if the system does not report it. With Multipath
// TCP, it is IPPROTO_MPTCP also after the connection has fallen back to TCP.
func (d *descriptor) protocol() int {
	protocol, _ := unix.GetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	return protocol
}

// hasRoute reports whether connect(2) has found a route and a source address for a TCP
// socket that has no port. An IPv6 socket has a path MTU then (ipv6(7)), and none without a
// route. An IPv4 socket stores its route later, but for IPv4 the kernel has another error
// than EADDRNOTAVAIL if there is none.
func (d *descriptor) hasRoute() bool {
	if !d.v6 {
		return true
	}
	_, err := unix.GetsockoptInt(d.fd, unix.SOL_IPV6, unix.IPV6_MTU)
	return !errors.Is(err, unix.ENOTCONN)
}
