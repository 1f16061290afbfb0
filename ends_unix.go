//go:build unix

package safedial

import (
	"net/netip"
	"os"
	"syscall"
)

// socketEnds asks the socket for its two ends. A socket that is neither IPv4
// nor IPv6 has zero ones.
func socketEnds(c syscall.RawConn) (local, peer netip.AddrPort, err error) {
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

// sockname and peername use package syscall, because x/sys/unix asks the socket for
// its protocol too, which is one more system call for each.
func sockname(fd int) (netip.AddrPort, error) {
	sa, err := syscall.Getsockname(fd)
	return sockaddrPort(sa), os.NewSyscallError("getsockname", err)
}

func peername(fd int) (netip.AddrPort, error) {
	sa, err := syscall.Getpeername(fd)
	return sockaddrPort(sa), os.NewSyscallError("getpeername", err)
}

func sockaddrPort(sa syscall.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
