package safedial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

// portDials are the ways to dial that LocalPorts hold for.
var portDials = map[string]func(d *Dialer, network string, remote netip.AddrPort) (net.Conn, error){
	"Dial": func(d *Dialer, network string, remote netip.AddrPort) (net.Conn, error) {
		return d.Dial(network, remote.String())
	},
	"NetDialer": func(d *Dialer, network string, remote netip.AddrPort) (net.Conn, error) {
		return d.NetDialer().Dial(network, remote.String())
	},
	"from an address": func(d *Dialer, network string, remote netip.AddrPort) (net.Conn, error) {
		from := *d
		from.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(remote.Addr(), 0))
		if isUDP(network) {
			from.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(remote.Addr(), 0))
		}
		return from.Dial(network, remote.String())
	},
	"typed": func(d *Dialer, network string, remote netip.AddrPort) (net.Conn, error) {
		if isUDP(network) {
			return untyped(d.DialUDP(context.Background(), network, netip.AddrPort{}, remote))
		}
		return untyped(d.DialTCP(context.Background(), network, netip.AddrPortFrom(remote.Addr(), 0), remote))
	},
}

func TestLocalPorts(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.RequirePortRange(t)
		setLocalPorts(t, PortRange{40000, 40099})
		for _, c := range []struct{ ports, want PortRange }{
			{PortRange{40050, 40052}, PortRange{40050, 40052}},
			{PortRange{40000, 40000}, PortRange{40000, 40000}},
			{PortRange{39000, 40003}, PortRange{40000, 40003}},
			{PortRange{40098, 50000}, PortRange{40098, 40099}},
			{PortRange{0, 40001}, PortRange{40000, 40001}},
			{PortRange{1, 65535}, PortRange{40000, 40099}},
			{PortRange{40009, 40011}, PortRange{40009, 40011}},
		} {
			for _, host := range []string{"127.0.0.1", "::1"} {
				remote := netip.AddrPortFrom(netip.MustParseAddr(host), 40010)
				l := serve(t, "tcp", remote.String())
				packets, err := net.ListenPacket("udp", remote.String())
				require.NoError(t, err)
				for _, network := range []string{"tcp", "udp"} {
					for name, dial := range portDials {
						for range 10 {
							conn, err := dial(&Dialer{LocalPorts: c.ports}, network, remote)
							require.NoError(t, err, "%s %s %s %v", name, network, host, c.ports)
							got := addrPort(conn.LocalAddr()).Port()
							assert.True(t, c.want.Contains(got) && got != 40010, "%s %s %s %v: %d", name, network, host, c.ports, got)
							hangUp(conn)
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
		nstest.RequirePortRange(t)
		setLocalPorts(t, PortRange{40000, 40099})
		for _, c := range []struct {
			ports PortRange
			want  string
		}{
			{PortRange{50000, 50010}, "local ports 50000-50010: none in the local port range 40000-40099 (ip_local_port_range)"},
			{PortRange{1, 39999}, "local ports 1-39999: none in the local port range 40000-40099 (ip_local_port_range)"},
			{PortRange{40010, 40010}, "local ports 40010: no port other than [40010] in the range 40010"},
			{PortRange{40020, 40011}, "local ports 40020-40011: the first is above the last"},
			{PortRange{40020, 0}, "local ports 40020-0: the first is above the last"},
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
		setLocalPorts(t, PortRange{40000, 40099})
		nstest.WithoutOptions(t, unix.IP_LOCAL_PORT_RANGE)
		neverConnects(t, PortRange{40050, 40060}, func(err error) {
			assert.ErrorIs(t, err, errors.ErrUnsupported)
			assert.ErrorIs(t, err, unix.ENOPROTOOPT)
			assert.ErrorContains(t, err, "local ports 40050-40060: unsupported operation: setsockopt IP_LOCAL_PORT_RANGE: protocol not available")
		})
	})
}

func neverConnects(t *testing.T, ports PortRange, check func(error)) {
	t.Helper()
	for _, host := range []string{"127.0.0.1", "::1"} {
		remote := netip.AddrPortFrom(netip.MustParseAddr(host), 40010)
		l, err := net.Listen("tcp", remote.String())
		require.NoError(t, err)
		for _, network := range []string{"tcp", "udp"} {
			for name, dial := range portDials {
				conn, err := dial(&Dialer{LocalPorts: ports}, network, remote)
				require.Nil(t, conn, "%s %s %v", name, network, ports)
				var op *net.OpError
				require.ErrorAs(t, err, &op, "%s %s", name, network)
				assert.Equal(t, "dial", op.Op)
				assert.False(t, op.Timeout())
				check(err)
			}
		}
		assert.ErrorIs(t, onSocket(rawConn(t, l), func(fd int) error {
			_, _, err := unix.Accept4(fd, unix.SOCK_NONBLOCK)
			return err
		}), unix.EAGAIN, "a socket has connected")
		l.Close()
	}
}

// TestLocalPortsOfAnotherRange dials while the remembered local port range is
// another than the real one, so that the kernel ignores the window.
func TestLocalPortsOfAnotherRange(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.RequirePortRange(t)
		serve(t, "tcp", "127.0.0.1:40010")
		setLocalPorts(t, PortRange{40000, 40099})
		ports := PortRange{50000, 50010}
		for name, dial := range portDials {
			for range 20 {
				remember(PortRange{50000, 50099})
				conn, err := dial(&Dialer{LocalPorts: ports}, "tcp", netip.MustParseAddrPort("127.0.0.1:40010"))
				require.Nil(t, conn, name)
				require.ErrorContains(t, err, fmt.Sprintf("local ports %v", ports), name)
			}
		}
	})
}

// TestLocalPortsAreForTheKernel: a port that is named is not the kernel's choice.
func TestLocalPortsAreForTheKernel(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		l := serve(t, "tcp", "127.0.0.1:40010")
		for name, d := range map[string]Dialer{
			"LocalAddr": {LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9999}},
			"Control": {Control: func(network, _ string, c syscall.RawConn) error {
				return onSocket(c, func(fd int) error { return bindTo(fd, network, "127.0.0.1", 9999) })
			}},
		} {
			d.LocalPorts = PortRange{50000, 50010}
			conn, err := d.Dial("tcp", l.Addr().String())
			require.NoError(t, err, name)
			assertReal(t, conn)
		}
	})
}
