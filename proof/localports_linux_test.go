package proof

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/safedial/safedial"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

// portDials are the ways to dial that LocalPorts hold for.
var portDials = map[string]func(d *safedial.Dialer, network string, remote netip.AddrPort) (net.Conn, error){
	"Dial": func(d *safedial.Dialer, network string, remote netip.AddrPort) (net.Conn, error) {
		return d.Dial(network, remote.String())
	},
	"NetDialer": func(d *safedial.Dialer, network string, remote netip.AddrPort) (net.Conn, error) {
		return d.NetDialer().Dial(network, remote.String())
	},
	"from an address": func(d *safedial.Dialer, network string, remote netip.AddrPort) (net.Conn, error) {
		from := *d
		from.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(remote.Addr(), 0))
		if strings.HasPrefix(network, "udp") {
			from.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(remote.Addr(), 0))
		}
		return from.Dial(network, remote.String())
	},
	"typed": func(d *safedial.Dialer, network string, remote netip.AddrPort) (net.Conn, error) {
		if strings.HasPrefix(network, "udp") {
			return nstest.NetConn(d.DialUDP(context.Background(), network, netip.AddrPort{}, remote))
		}
		return nstest.NetConn(d.DialTCP(context.Background(), network, netip.AddrPortFrom(remote.Addr(), 0), remote))
	},
}

func TestLocalPorts(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		requirePortRange(t)
		nstest.SetLocalPorts(t, 40000, 40099)
		for _, c := range []struct{ ports, want safedial.PortRange }{
			{ports(40050, 40052), ports(40050, 40052)},
			{ports(40000, 40000), ports(40000, 40000)},
			{ports(39000, 40003), ports(40000, 40003)},
			{ports(40098, 50000), ports(40098, 40099)},
			{ports(0, 40001), ports(40000, 40001)},
			{ports(1, 65535), ports(40000, 40099)},
			{ports(40009, 40011), ports(40009, 40011)},
		} {
			for _, host := range []string{"127.0.0.1", "::1"} {
				remote := netip.AddrPortFrom(netip.MustParseAddr(host), 40010)
				l := nstest.Serve(t, "tcp", remote.String())
				packets, err := net.ListenPacket("udp", remote.String())
				require.NoError(t, err)
				for _, network := range []string{"tcp", "udp"} {
					for name, dial := range portDials {
						for range 10 {
							conn, err := dial(&safedial.Dialer{LocalPorts: c.ports}, network, remote)
							require.NoError(t, err, "%s %s %s %v", name, network, host, c.ports)
							got := nstest.AddrPort(conn.LocalAddr()).Port()
							assert.True(t, c.want.Contains(got) && got != 40010, "%s %s %s %v: %d", name, network, host, c.ports, got)
							nstest.Reset(conn)
						}
					}
				}
				l.Close()
				packets.Close()
			}
		}
	})
}

// TestLocalPortsImpossible dials with ports that the kernel cannot keep to: no
// socket may connect, from whatever port.
func TestLocalPortsImpossible(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		requirePortRange(t)
		nstest.SetLocalPorts(t, 40000, 40099)
		for _, c := range []struct {
			ports safedial.PortRange
			want  string
		}{
			{ports(50000, 50010), "local ports 50000-50010: none in the local port range 40000-40099"},
			{ports(1, 39999), "local ports 1-39999: none in the local port range 40000-40099"},
			{ports(40010, 40010), "local ports 40010: no port other than [40010] in the range 40010"},
			{ports(40020, 40011), "local ports 40020-40011: the first is above the last"},
			{ports(40020, 0), "local ports 40020-0: the first is above the last"},
		} {
			neverConnects(t, c.ports, func(err error) {
				assert.ErrorContains(t, err, c.want)
				assert.NotErrorIs(t, err, errors.ErrUnsupported)
			})
		}
	})
}

// TestLocalPortsUnsupported is the same on a kernel before 6.3.
func TestLocalPortsUnsupported(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, 40000, 40099)
		withoutOptions(t, unix.IP_LOCAL_PORT_RANGE)
		neverConnects(t, ports(40050, 40060), func(err error) {
			assert.ErrorIs(t, err, errors.ErrUnsupported)
			assert.ErrorIs(t, err, unix.ENOPROTOOPT)
			assert.ErrorContains(t, err, "local ports 40050-40060: unsupported operation: setsockopt IP_LOCAL_PORT_RANGE: protocol not available")
		})
	})
}

func neverConnects(t *testing.T, ports safedial.PortRange, check func(error)) {
	t.Helper()
	for _, host := range []string{"127.0.0.1", "::1"} {
		remote := netip.AddrPortFrom(netip.MustParseAddr(host), 40010)
		l, err := net.Listen("tcp", remote.String())
		require.NoError(t, err)
		for _, network := range []string{"tcp", "udp"} {
			for name, dial := range portDials {
				conn, err := dial(&safedial.Dialer{LocalPorts: ports}, network, remote)
				require.Nil(t, conn, "%s %s %v", name, network, ports)
				var op *net.OpError
				require.ErrorAs(t, err, &op, "%s %s", name, network)
				assert.Equal(t, "dial", op.Op)
				assert.False(t, op.Timeout())
				check(err)
			}
		}
		assert.ErrorIs(t, nstest.OnSocket(nstest.RawConn(t, l), func(fd int) error {
			_, _, err := unix.Accept4(fd, unix.SOCK_NONBLOCK)
			return err
		}), unix.EAGAIN, "a socket has connected")
		l.Close()
	}
}

// TestLocalPortsAreForTheKernel: a port that is named is not the kernel's choice.
func TestLocalPortsAreForTheKernel(t *testing.T) {
	skipPortable(t, "every dial with LocalPorts fails")
	nstest.Run(t, func(t *testing.T) {
		l := nstest.Serve(t, "tcp", "127.0.0.1:40010")
		for name, d := range map[string]safedial.Dialer{
			"LocalAddr": {LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9999}},
			"Control": {Control: func(network, _ string, c syscall.RawConn) error {
				return nstest.OnSocket(c, func(fd int) error { return nstest.BindTo(fd, network, "127.0.0.1", 9999) })
			}},
		} {
			d.LocalPorts = ports(50000, 50010)
			conn, err := d.Dial("tcp", l.Addr().String())
			require.NoError(t, err, name)
			nstest.AssertReal(t, conn)
		}
	})
}
