package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// bindTCP returns the error of bind(2) for a TCP server that sets SO_REUSEADDR and listens
// on all addresses. The socket has the port for an instant only, and never listens.
func bindTCP(port uint16) error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	anywhere := unix.Sockaddr(&unix.SockaddrInet6{Port: int(port)})
	if err != nil { // the kernel has no IPv6
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		anywhere = &unix.SockaddrInet4{Port: int(port)}
	}
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	_ = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 0) // IPv4 too
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	return os.NewSyscallError("bind", unix.Bind(fd, anywhere))
}
