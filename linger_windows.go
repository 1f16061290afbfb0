package safedial

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// winLinger is Winsock's struct linger, which differs from package syscall's.
type winLinger struct{ onoff, seconds uint16 }

// linger returns what SO_LINGER is set to.
func linger(fd uintptr) int64 {
	var l winLinger
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
