package proof

import (
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/netns"
	"github.com/safedial/safedial/internal/nstest"
)

// TestUDPNeedsNoBind dials where bind(2) is refused, as by systemd's SocketBindDeny=.
// net does not call it, so neither may the library: whether or not it knows the ports, and
// whatever it does to avoid some of them.
func TestUDPNeedsNoBind(t *testing.T) {
	tests := []struct {
		name   string
		before func(t *testing.T)
	}{
		{"PortsKnown", func(*testing.T) {}},
		{"PortsHidden", hideSysctls},
		{"WithoutPortRange", func(t *testing.T) { nstest.WithoutOptions(t, unix.IP_LOCAL_PORT_RANGE) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			isolated(t, func(t *testing.T) {
				setLocalPorts(t, 40000, 40003)
				test.before(t)
				nstest.FailSyscall(t, unix.SYS_BIND, unix.EPERM)
				nstest.AwaitPortsRead()
				dialWithoutBind(t)
			})
		})
	}
}

func dialWithoutBind(t *testing.T) {
	t.Helper()
	dials := dialsOf(new(safedial.Dialer))
	hasPortRange := !portable && nstest.HasPortRange(t, 0)
	if hasPortRange {
		dials["Dialer with AvoidPorts"] = (&safedial.Dialer{AvoidPorts: safedial.Ports(40003)}).Dial
		dials["Dialer with LocalPorts"] = (&safedial.Dialer{LocalPorts: ports(40001, 40003)}).Dial
	}
	dials["Dialer from an address"] = (&safedial.Dialer{LocalAddr: udp("127.0.0.1", 0)}).Dial
	for _, address := range []string{"127.0.0.1:9000", "127.0.0.1:40002", "[::1]:40002"} {
		for kind, dial := range dials {
			var d net.Dialer
			if kind == "Dialer from an address" {
				d.LocalAddr = udp("127.0.0.1", 0)
			}
			_, want := ended(d.Dial("udp", address))
			for range 20 {
				isSelf, err := ended(dial("udp", address))
				if kind != "NetDialer" || hasPortRange { // nothing checks its connections
					assert.False(t, isSelf, "%s to %s", kind, address)
				}
				if !assert.Equal(t, want, err, "%s to %s", kind, address) {
					break
				}
			}
		}
	}
}

// TestUDPPeerWithOwnAddress dials a peer that has one of this host's own addresses, behind
// a device, a mark or a network namespace of the caller's choice: as with VRFs, or with two
// networks that use the same addresses. Only the socket itself knows that it is a peer.
func TestUDPPeerWithOwnAddress(t *testing.T) {
	isolated(t, func(t *testing.T) {
		for _, args := range [][]string{
			{"link", "add", "red0", "type", "veth", "peer", "name", "peer0"},
			{"addr", "add", "192.168.7.1/32", "dev", "lo"},
			{"addr", "add", "192.168.7.2/24", "dev", "red0"},
			{"link", "set", "red0", "up"},
			{"link", "set", "peer0", "up"},
			{"route", "add", "192.168.7.0/24", "dev", "red0", "src", "192.168.7.2", "table", "100"},
			{"rule", "add", "pref", "10", "oif", "red0", "lookup", "100"},
			{"rule", "add", "pref", "11", "fwmark", "7", "lookup", "100"},
			{"rule", "add", "pref", "20", "lookup", "local"},
			{"rule", "del", "pref", "0"},
		} {
			ip(t, args...)
		}
		setLocalPorts(t, onlyPort, onlyPort)
		for name, control := range map[string]controlFunc{
			"device": onSocket(func(fd int) error { return unix.BindToDevice(fd, "red0") }),
			"mark":   setOption(unix.SOL_SOCKET, unix.SO_MARK, 7),
		} {
			require.NoError(t, comparePeer(control), name)
		}
	})
}

// TestUDPPeerInOtherNamespace is the same with a hook that moves the thread to the
// namespace in which the peer's address is the host's own.
func TestUDPPeerInOtherNamespace(t *testing.T) {
	isolated(t, func(t *testing.T) {
		nstest.Program(t, "ip", "iproute2")
		home := openNamespace(t)
		require.NoError(t, netns.Elsewhere("192.168.7.1", "192.168.7.2", func() error {
			away, err := os.Open("/proc/thread-self/ns/net")
			if err != nil {
				return err
			}
			defer away.Close()
			if err := netns.SetLocalPorts(onlyPort, onlyPort); err != nil {
				return err
			}
			enter := func(file *os.File) error { return unix.Setns(int(file.Fd()), unix.CLONE_NEWNET) }
			return comparePeer(
				func(string, string, syscall.RawConn) error { return enter(home) },
				func() error { return enter(away) })
		}))
	})
}

// comparePeer dials 192.168.7.1 from the destination's own port, which is LocalAddr's or
// the only one that the system has; a NetDialer's UDP may leave out the latter. It returns
// an error unless every dial connects from 192.168.7.2, as net.Dialer's do. It calls
// before ahead of each dial.
func comparePeer(control controlFunc, before ...func() error) error {
	for _, c := range []struct {
		local   net.Addr
		address string
	}{
		{nil, "192.168.7.1:40000"},
		{udp("", 0), "192.168.7.1:40000"},
		{udp("", 123), "192.168.7.1:123"},
		{udp("192.168.7.2", 123), "192.168.7.1:123"},
	} {
		dials := dialsOf(&safedial.Dialer{LocalAddr: c.local, Control: control})
		dials["net.Dialer"] = (&net.Dialer{LocalAddr: c.local, Control: control}).Dial
		for kind, dial := range dials {
			if kind == "NetDialer" && c.address == "192.168.7.1:40000" {
				continue
			}
			for _, f := range before {
				if err := f(); err != nil {
					return err
				}
			}
			conn, err := dial("udp", c.address)
			if err != nil {
				return fmt.Errorf("%s from %v: %w", kind, c.local, err)
			}
			_, port, _ := net.SplitHostPort(c.address)
			got, want := ends(conn), "192.168.7.2:"+port+" to "+c.address
			conn.Close()
			if got != want {
				return fmt.Errorf("%s from %v: %s, not %s", kind, c.local, got, want)
			}
		}
	}
	return nil
}

// TestUDPKeepsDevice has a hook bind the socket to a device, which disconnecting a UDP
// socket would undo.
func TestUDPKeepsDevice(t *testing.T) { isolated(t, dialUDPOnDevice) }

// TestUDPKeepsDeviceWithoutPortRange is the same on a kernel before 6.3.
func TestUDPKeepsDeviceWithoutPortRange(t *testing.T) {
	isolated(t, dialUDPOnDevice, unix.IP_LOCAL_PORT_RANGE)
}

func dialUDPOnDevice(t *testing.T) {
	setLocalPorts(t, 40000, 40001)
	device := onSocket(func(fd int) error { return unix.BindToDevice(fd, "lo") })
	for _, local := range []net.Addr{nil, udp("127.0.0.1", 0), udp("", 0)} {
		for kind, dial := range dialsOf(&safedial.Dialer{LocalAddr: local, Control: device}) {
			for range 50 {
				conn, err := dial("udp", "127.0.0.1:40000")
				if kind == "NetDialer" && noPort(err) {
					continue
				}
				require.NoError(t, err, "%s from %v", kind, local)
				var name string
				require.NoError(t, nstest.OnSocket(nstest.RawConn(t, conn), func(fd int) (err error) {
					name, err = unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
					return err
				}))
				conn.Close()
				if !assert.Equal(t, "lo", name, "%s from %v: the device of %s", kind, local, ends(conn)) {
					break
				}
			}
		}
	}
}

// ends returns both ends of a connection.
func ends(conn net.Conn) string { return fmt.Sprintf("%s to %s", conn.LocalAddr(), conn.RemoteAddr()) }
