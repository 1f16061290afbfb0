//go:build !safedial_portable

package safedial

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// setLocalPortRange sets IP_LOCAL_PORT_RANGE, so that the kernel chooses the local
// port from r; the zero PortRange removes the limit. TCP and UDP sockets have the
// option since Linux 6.3 (and 6.1.32), MPTCP sockets since 6.8. From 6.8 on it also
// makes connect(2) search port by port instead of one parity first, which keeps
// the cost of a dial flat when local ports run out
// (https://git.kernel.org/linus/207184853dbd).
func setLocalPortRange(fd int, r PortRange) error {
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE, int(uint32(r.High)<<16|uint32(r.Low)))
}

// localPortRangeOption returns what IP_LOCAL_PORT_RANGE holds: the zero PortRange, if it
// is not set.
func localPortRangeOption(fd int) PortRange {
	value, err := unix.GetsockoptInt(fd, unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE)
	if err != nil {
		return PortRange{}
	}
	return PortRange{Low: uint16(value), High: uint16(uint32(value) >> 16)}
}

// open returns the range that IP_LOCAL_PORT_RANGE means with r: an end of 0 is open.
func open(r PortRange) PortRange {
	if r.High == 0 {
		r.High = everyPort.High
	}
	return r
}

// setBindAddressNoPort sets IP_BIND_ADDRESS_NO_PORT (Linux 4.2), so that bind(2)
// with port 0 takes no port, and connect(2) chooses one that is free for its
// 4-tuple. If the kernel refuses, bind(2) chooses, as it does for net.Dialer.
func setBindAddressNoPort(fd int) bool {
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1) == nil
}

// setReuseAddr sets SO_REUSEADDR on a TCP socket that does not have it, and
// reports whether it did. An MPTCP socket keeps it off, because Linux 6.1 cannot
// clear the option once the socket is connected.
func setReuseAddr(fd int) bool {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil || protocol != unix.IPPROTO_TCP {
		return false
	}
	on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR)
	return err == nil && on == 0 && unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) == nil
}

// clearReuseAddr reverses setReuseAddr.
func clearReuseAddr(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
}

// disconnect dissolves the association of a socket, which leaves no TIME_WAIT, by
// connect(2) to AF_UNSPEC. A port that the socket was
// not bound to explicitly is free then, and the socket can connect again.
func disconnect(fd int) error {
	sa := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	if errno != 0 {
		return errno
	}
	// The reset is pending as an error, which a deferred connect (TCP_FASTOPEN_CONNECT)
	// would not clear.
	_, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	return nil
}
