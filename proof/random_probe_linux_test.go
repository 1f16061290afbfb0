package proof

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

// A bare socket is made by system calls alone. The addresses and options that it hands
// to the kernel are longer than those of package net, so that an environment can refuse
// a call to the library and not to the test.
type bare int

const long = 128 // sizeof(struct sockaddr_storage), the most that it takes

// socket makes a socket that is closed by reset.
func (w *world) socket(v6 bool, kind int) bare {
	w.t.Helper()
	fd, err := newBare(v6, kind)
	require.NoError(w.t, err)
	w.sockets = append(w.sockets, fd)
	return fd
}

func newBare(v6 bool, kind int) (bare, error) {
	family := unix.AF_INET
	if v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	return bare(fd), err
}

// do makes a system call that takes an address: bind(2) or connect(2).
func (fd bare) do(call uintptr, addr netip.AddrPort, v6 bool) error {
	return fd.doAsNet(call, addr, v6, long)
}

// doAsNet is do with the length of the address that package net hands to the kernel.
func (fd bare) doAsNet(call uintptr, addr netip.AddrPort, v6 bool, size uintptr) error {
	var raw [long]byte
	binary.BigEndian.PutUint16(raw[2:], addr.Port())
	switch {
	case v6:
		binary.NativeEndian.PutUint16(raw[:], unix.AF_INET6)
		ip := addr.Addr().As16()
		copy(raw[8:], ip[:])
	case addr.Addr().IsUnspecified():
		binary.NativeEndian.PutUint16(raw[:], unix.AF_INET)
	default:
		binary.NativeEndian.PutUint16(raw[:], unix.AF_INET)
		ip := addr.Addr().Unmap().As4()
		copy(raw[4:], ip[:])
	}
	_, _, errno := unix.Syscall(call, uintptr(fd), uintptr(unsafe.Pointer(&raw)), size)
	switch {
	case errno == 0:
		return nil
	case call == unix.SYS_BIND:
		return os.NewSyscallError("bind", errno)
	}
	return os.NewSyscallError("connect", errno)
}

func (fd bare) setOption(level, option int, value ...uint32) {
	var raw [long / 4]uint32
	copy(raw[:], value)
	_, _, _ = unix.Syscall6(unix.SYS_SETSOCKOPT,
		uintptr(fd), uintptr(level), uintptr(option), uintptr(unsafe.Pointer(&raw)), long, 0)
}

// reset closes the socket, and leaves no TIME_WAIT.
func (fd bare) reset() {
	fd.setOption(unix.SOL_SOCKET, unix.SO_LINGER, 1, 0)
	unix.Close(int(fd))
}

// hearsItself reports whether the connected socket receives what it sends.
func (fd bare) hearsItself() bool {
	_ = unix.Sendto(int(fd), []byte{0}, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, nil)
	n, _, _ := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_DONTWAIT)
	return n == 1
}

// A socketAddr is what a hook is told of a socket.
type socketAddr struct{ network, address string }

// ends returns the address that the socket connects to, and its family.
func (a socketAddr) ends() (addr netip.AddrPort, v6 bool) {
	v6 = strings.HasSuffix(a.network, "6")
	host, port, _ := net.SplitHostPort(a.address)
	host, _, _ = strings.Cut(host, "%")
	ip := netip.IPv4Unspecified()
	if host != "" {
		ip = netip.MustParseAddr(host)
	}
	if v6 && ip.IsUnspecified() {
		ip = netip.IPv6Unspecified()
	}
	number, _ := strconv.Atoi(port)
	return netip.AddrPortFrom(ip, uint16(number)), v6
}

// plan returns the sockets with which net.Dialer dials s if all of them fail.
func (s *scenario) plan() (plan []socketAddr) {
	nd := s.dialer()
	nd.ControlContext = func(_ context.Context, network, address string, _ syscall.RawConn) error {
		plan = append(plan, socketAddr{network, address})
		return errors.New("planned")
	}
	_, _ = s.through(context.Background(), &nd, false)
	return slices.Compact(plan)
}

// probe connects a bare socket as the dial of s would connect the socket to a: from
// port, if it is not 0.
func (w *world) probe(s *scenario, a socketAddr, port uint16) error {
	addr, v6 := a.ends()
	kind := unix.SOCK_STREAM
	if s.udp() {
		kind = unix.SOCK_DGRAM
	}
	fd, err := newBare(v6, kind)
	if err != nil {
		return err
	}
	defer w.accept(bare.reset)
	defer fd.reset()
	if port != 0 {
		w.writeRange(port, port)
		defer w.writeRange(s.system().Low, s.system().High)
	}
	if c, ok := controls[s.Control]; ok && !c.special {
		if err := c.do(hooked{w, s, a.network, int(fd)}); err != nil {
			return err
		}
		fd.setOption(unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE, 0)
	}
	if v6 && strings.HasSuffix(s.network(), "6") {
		fd.setOption(unix.SOL_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if from, ok := s.from(v6); ok {
		if w.lateBind && !s.udp() {
			nstest.BindAddressNoPort(int(fd))
		}
		size := uintptr(unix.SizeofSockaddrInet4)
		if v6 {
			size = unix.SizeofSockaddrInet6
		}
		if err := fd.doAsNet(unix.SYS_BIND, from, v6, size); err != nil {
			return err
		}
	}
	if err := fd.do(unix.SYS_CONNECT, addr, v6); err != nil {
		return err
	}
	if fd.hearsItself() {
		return errMetItself
	}
	return nil
}

var errMetItself = errors.New("met itself")

// anyAddress is the port of every address.
func anyAddress(port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(port))
}

// isFree waits until a server can listen on the port, a while if it cannot.
func (w *world) isFree(port int, wait time.Duration) bool {
	for deadline := time.Now().Add(wait); ; time.Sleep(time.Millisecond) {
		fd, err := newBare(nstest.HasIPv6(), unix.SOCK_STREAM)
		require.NoError(w.t, err)
		err = errors.Join(fd.do(unix.SYS_BIND, anyAddress(port), nstest.HasIPv6()), unix.Listen(int(fd), 1))
		unix.Close(int(fd))
		if err == nil || time.Now().After(deadline) {
			return err == nil
		}
	}
}
