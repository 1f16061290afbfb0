package safedial

import (
	"errors"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// connRefused is every error that a refused connection is known by: Winsock's own
// and the portable one, which package syscall invents on Windows.
var connRefused = []error{windows.WSAECONNREFUSED, syscall.ECONNREFUSED}

var (
	errAddrNotAvailable error = windows.WSAEADDRNOTAVAIL
	errAddrInUse        error = windows.WSAEADDRINUSE
	errAgain            error = windows.WSAEWOULDBLOCK
)

// socketAddrs is for Unix; elsewhere the addresses that a connection reports must do.
func socketAddrs(syscall.RawConn) (local, peer netip.AddrPort, err error) {
	return local, peer, errors.ErrUnsupported
}

// setLinger sets SO_LINGER, and returns its old value: both in seconds, or
// lingerOff. If it fails, the socket closes as usual. Winsock's struct linger
// differs from package syscall's.
func setLinger(fd uintptr, seconds int64) (was int64) {
	var old struct{ onoff, seconds uint16 }
	size := int32(unsafe.Sizeof(old))
	was = lingerOff
	err := windows.Getsockopt(
		windows.Handle(fd),
		windows.SOL_SOCKET,
		windows.SO_LINGER,
		(*byte)(unsafe.Pointer(&old)),
		&size,
	)
	if err == nil && old.onoff != 0 {
		was = int64(old.seconds)
	}
	l := syscall.Linger{}
	if seconds != lingerOff {
		l.Onoff, l.Linger = 1, int32(seconds)
	}
	_ = syscall.SetsockoptLinger(syscall.Handle(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &l)
	return was
}
