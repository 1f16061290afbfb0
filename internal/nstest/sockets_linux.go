package nstest

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A Destination is a way to name a port of this machine.
type Destination struct {
	Network, Host string
	Own           string // the address that the kernel takes for the socket's own
}

// Destinations are all of them, for TCP.
var Destinations = []Destination{
	{"tcp", "127.0.0.1", "127.0.0.1"},
	{"tcp4", "127.0.0.1", "127.0.0.1"},
	{"tcp", "::1", "::1"},
	{"tcp6", "::1", "::1"},
	{"tcp", "::ffff:127.0.0.1", "127.0.0.1"},
	{"tcp4", "::ffff:127.0.0.1", "127.0.0.1"},
	{"tcp", "", "127.0.0.1"},
	{"tcp4", "", "127.0.0.1"},
	{"tcp6", "", "::1"},
	{"tcp", "0.0.0.0", "127.0.0.1"},
	{"tcp4", "0.0.0.0", "127.0.0.1"},
	{"tcp", "::", "::1"},
	{"tcp6", "::", "::1"},
	{"tcp", "localhost", "127.0.0.1"},
	{"tcp4", "localhost", "127.0.0.1"},
	{"tcp", OwnAddress, OwnAddress},
	// Zones of IPv4 addresses and of "::", which net ignores.
	{"tcp", "::ffff:127.0.0.1%lo", "127.0.0.1"},
	{"tcp", "::ffff:127.0.0.1%lo:1", "127.0.0.1"},
	{"tcp", "::ffff:0.0.0.0%lo", "127.0.0.1"},
	{"tcp", "::%lo", "::1"},
}

// Address returns the destination's address with the port.
func (d Destination) Address(port uint16) string {
	return net.JoinHostPort(d.Host, strconv.Itoa(int(port)))
}

// OnSocket runs f on the socket.
func OnSocket(c syscall.RawConn, f func(fd int) error) error {
	var err error
	if ctrlErr := c.Control(func(fd uintptr) { err = f(int(fd)) }); ctrlErr != nil {
		return ctrlErr
	}
	return err
}

// RawConn returns the socket of a connection or a listener.
func RawConn(t *testing.T, conn any) syscall.RawConn {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	return raw
}

// BindTo binds the socket to ip, or to the loopback address of its family where
// ip is of the other one, as on the second leg of "localhost" and "::".
func BindTo(fd int, network, ip string, port uint16) error {
	addr := netip.MustParseAddr(ip)
	if network == "tcp6" {
		if addr.Is4() {
			addr = netip.IPv6Loopback()
		}
		return unix.Bind(fd, &unix.SockaddrInet6{Port: int(port), Addr: addr.As16()})
	}
	if addr.Is6() {
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return unix.Bind(fd, &unix.SockaddrInet4{Port: int(port), Addr: addr.As4()})
}

// LimitPorts has the kernel choose the socket's local port from low to high; a bound
// of 0 is none.
func LimitPorts(fd int, low, high uint16) error {
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE, int(high)<<16|int(low))
}

// BindAddressNoPort leaves the port of a socket that is bound to port 0 to
// connect(2), if the kernel can.
func BindAddressNoPort(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
}

// ResetOnClose has the socket leave no TIME_WAIT.
func ResetOnClose(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

// OpenDescriptors returns how many descriptors the process has.
func OpenDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

// AssertNothingLeft waits until no more descriptors and goroutines are there than
// before, but for that of the wait.
func AssertNothingLeft(t *testing.T, descriptors, goroutines int) {
	t.Helper()
	if assert.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.LessOrEqual(c, OpenDescriptors(t), descriptors, "descriptors")
		assert.LessOrEqual(c, runtime.NumGoroutine(), goroutines+1, "goroutines")
	}, 20*time.Second, 10*time.Millisecond) {
		return
	}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, entry := range entries {
		target, _ := os.Readlink("/proc/self/fd/" + entry.Name())
		t.Logf("descriptor %s: %s", entry.Name(), target)
	}
	sockets, _ := os.ReadFile("/proc/thread-self/net/tcp")
	packets, _ := os.ReadFile("/proc/thread-self/net/udp")
	stacks := make([]byte, 1<<20)
	t.Logf("TCP:\n%sUDP:\n%s%s", sockets, packets, stacks[:runtime.Stack(stacks, true)])
}

// RaiseDescriptorLimit allows the process that many descriptors.
func RaiseDescriptorLimit(t *testing.T, want uint64) {
	t.Helper()
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	if limit.Max < want {
		Refused(t, fmt.Sprintf("only %d descriptors are allowed", limit.Max))
	}
	limit.Cur = max(limit.Cur, want)
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
}
