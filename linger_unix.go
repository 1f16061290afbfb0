//go:build (unix && !linux) || (linux && safedial_portable)

package safedial

import "golang.org/x/sys/unix"

// linger returns what SO_LINGER is set to.
func linger(fd uintptr) int64 {
	l, err := unix.GetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER)
	if err != nil || l.Onoff == 0 {
		return lingerOff
	}
	return int64(l.Linger)
}

// setLinger sets SO_LINGER. If it fails, the socket closes as usual.
func setLinger(fd uintptr, seconds int64) {
	l := unix.Linger{}
	if seconds >= 0 {
		l.Onoff, l.Linger = 1, int32(seconds)
	}
	_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &l)
}
