//go:build unix

package safedial

import (
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// socketAddrs asks the socket for its local address and its peer's. Both are zero
// for a socket that is neither IPv4 nor IPv6.
func socketAddrs(c syscall.RawConn) (local, peer netip.AddrPort, err error) {
	ctrlErr := c.Control(func(fd uintptr) {
		if local, err = sockname(int(fd)); err == nil {
			var sa syscall.Sockaddr
			sa, err = syscall.Getpeername(int(fd))
			peer, err = addrPortOf(sa), os.NewSyscallError("getpeername", err)
		}
	})
	if ctrlErr != nil {
		err = ctrlErr
	}
	return local, peer, err
}

// sockname wraps getsockname(2). It uses package syscall, because x/sys/unix makes
// one more system call, to ask for the protocol.
func sockname(fd int) (netip.AddrPort, error) {
	sa, err := syscall.Getsockname(fd)
	return addrPortOf(sa), os.NewSyscallError("getsockname", err)
}

func addrPortOf(sa syscall.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// setLinger sets SO_LINGER, and returns its old value: both in seconds, or
// lingerOff. If it fails, the socket closes as usual.
func setLinger(fd uintptr, seconds int64) (was int64) {
	was = lingerOff
	if l, err := unix.GetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER); err == nil && l.Onoff != 0 {
		was = int64(l.Linger)
	}
	l := unix.Linger{}
	if seconds != lingerOff {
		l.Onoff, l.Linger = 1, int32(seconds)
	}
	_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &l)
	return was
}
