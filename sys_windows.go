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

// linger returns what SO_LINGER is set to, in seconds; lingerOff is off. Winsock's
// struct linger differs from package syscall's.
func linger(fd uintptr) int64 {
	var l struct{ onoff, seconds uint16 }
	size := int32(unsafe.Sizeof(l))
	err := windows.Getsockopt(windows.Handle(fd), windows.SOL_SOCKET, windows.SO_LINGER, (*byte)(unsafe.Pointer(&l)), &size)
	if err != nil || l.onoff == 0 {
		return lingerOff
	}
	return int64(l.seconds)
}

// setLinger sets SO_LINGER. If it fails, the socket closes as usual.
func setLinger(fd uintptr, seconds int64) {
	l := syscall.Linger{}
	if seconds >= 0 {
		l.Onoff, l.Linger = 1, int32(seconds)
	}
	_ = syscall.SetsockoptLinger(syscall.Handle(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &l)
}
