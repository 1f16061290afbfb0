//go:build unix

package safedial

import (
	"net/netip"
	"os"
	"syscall"
)

// socketAddrs asks the socket for its local address and its peer's. Both are
// zero for a socket that is neither IPv4 nor IPv6.
func socketAddrs(c syscall.RawConn) (local, peer netip.AddrPort, err error) {
	ctrlErr := c.Control(func(fd uintptr) {
		if local, err = sockname(int(fd)); err == nil {
			peer, err = peername(int(fd))
		}
	})
	if ctrlErr != nil {
		err = ctrlErr
	}
	return local, peer, err
}

// sockname wraps getsockname(2). It and peername use package syscall, because
// x/sys/unix makes one more system call for each, to ask for the protocol.
func sockname(fd int) (netip.AddrPort, error) {
	sa, err := syscall.Getsockname(fd)
	return addrPortOf(sa), os.NewSyscallError("getsockname", err)
}

// peername wraps getpeername(2).
func peername(fd int) (netip.AddrPort, error) {
	sa, err := syscall.Getpeername(fd)
	return addrPortOf(sa), os.NewSyscallError("getpeername", err)
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
