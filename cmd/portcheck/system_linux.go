package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
)

// kept are the promises of README's table that hold with IP_LOCAL_PORT_RANGE, and without.
var kept = []string{"all", "those that need no port ranges"}

// askSystem asks the kernel, by sockets, what it has.
func askSystem() systemReport {
	var r systemReport
	for _, protocol := range []struct {
		name         string
		kind, number int
	}{{"TCP", unix.SOCK_STREAM, 0}, {"UDP", unix.SOCK_DGRAM, 0}, {"MPTCP", unix.SOCK_STREAM, unix.IPPROTO_MPTCP}} {
		f := featureIf("IP_LOCAL_PORT_RANGE for "+protocol.name, honorsPortRange(protocol.kind, protocol.number))
		r.Features = append(r.Features, f)
		holds := kept[1]
		if f.Has {
			holds = kept[0]
		}
		r.Promises = append(r.Promises, promise{protocol.name, holds})
	}
	r.Features = append(r.Features,
		featureIf("IP_BIND_ADDRESS_NO_PORT", bindsLate()),
		featureIf("undo by connect(2) to AF_UNSPEC", undoes()))
	return r
}

// honorsPortRange returns nil if a socket gets its port from the IP_LOCAL_PORT_RANGE that
// it has been given: some systems take the option and ignore it.
func honorsPortRange(kind, protocol int) error {
	local, err := safedial.LocalPortRange()
	if err != nil { // gVisor's has its ends reversed
		local = safedial.PortRange{Low: 32768, High: 60999}
	}
	if local.Len() < 2 {
		return fmt.Errorf("not known, because %s is all of the local port range", local)
	}
	last := safedial.PortRange{Low: local.High - uint16(min(64, local.Len()/2)-1), High: local.High}
	for range 3 { // a kernel that ignores the option may choose one of these by chance
		port, err := portWith(kind, protocol, unix.IP_LOCAL_PORT_RANGE, int(uint32(last.High)<<16|uint32(last.Low)))
		if err != nil {
			return err
		}
		if !last.Contains(uint16(port)) {
			return fmt.Errorf("taken and ignored: the kernel chose port %d, not one of %s", port, last)
		}
	}
	return nil
}

// bindsLate returns nil if bind(2) leaves port 0 to connect(2) with
// IP_BIND_ADDRESS_NO_PORT.
func bindsLate() error {
	port, err := portWith(unix.SOCK_STREAM, 0, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if err == nil && port != 0 {
		err = fmt.Errorf("taken and ignored: bind chose port %d", port)
	}
	return err
}

// portWith returns the port that bind(2) chooses for a socket with an option of
// IPPROTO_IP.
func portWith(kind, protocol, option, value int) (port int, err error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_IP, option, value); err != nil {
		return 0, os.NewSyscallError("setsockopt", err)
	}
	own, err := bind(fd)
	if err != nil {
		return 0, err
	}
	return own.Port, nil
}

// undoes returns nil if connect(2) to AF_UNSPEC frees the port of a socket that is
// connected to itself. If not, closing the socket does: the port is not left blocked.
func undoes() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	reset := unix.Linger{Onoff: 1}
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &reset); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	own, err := bind(fd)
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, own); err != nil {
		return os.NewSyscallError("connect", err)
	}
	if err := connectUnspecified(fd); err != nil {
		return err
	}
	if _, err := unix.Getpeername(fd); !errors.Is(err, unix.ENOTCONN) {
		return errors.New("taken and ignored: the socket is still connected")
	}
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: own.Addr[:], Port: own.Port})
	if err != nil {
		return err
	}
	return l.Close()
}

// bind binds a socket to port 0 of 127.0.0.1, and returns what it is bound to.
func bind(fd int) (*unix.SockaddrInet4, error) {
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return nil, os.NewSyscallError("getsockname", err)
	}
	return name.(*unix.SockaddrInet4), nil
}

// connectUnspecified dissolves what a socket is connected to.
func connectUnspecified(fd int) error {
	to := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&to)), unsafe.Sizeof(to))
	if errno != 0 {
		return os.NewSyscallError("connect", errno)
	}
	return nil
}
