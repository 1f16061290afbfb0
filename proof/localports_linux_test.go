package proof

import (
	"context"
	"errors"
	"fmt"
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

// TestLocalPortsSayWhy: a dial that cannot get a port fails immediately, and says what
// leaves none.
func TestLocalPortsSayWhy(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		requirePortRange(t)
		nstest.SetReservedPorts(t, "50000-50099")
		nstest.SetLocalPorts(t, 32768, 60999)
		limit := func(low, high uint16) func(string, string, syscall.RawConn) error {
			return func(_, _ string, c syscall.RawConn) error {
				return nstest.OnSocket(c, func(fd int) error { return nstest.LimitPorts(fd, low, high) })
			}
		}
		for want, d := range map[string]safedial.Dialer{
			"local ports 50000-50099: all reserved by ip_local_reserved_ports":                          {LocalPorts: ports(50000, 50099)},
			"local ports 40000-40010: none in the range 41000-41010 that the caller's hook has set":     {LocalPorts: ports(40000, 40010), Control: limit(41000, 41010)},
			"avoid ports [40000 40001]: no port other than [9000 40000 40001] in the range 40000-40001": {AvoidPorts: []uint16{40001, 40000}, Control: limit(40000, 40001)},
			"local ports 40000-40001: no port other than [9000 40000 40001] in the range 40000-40001":   {LocalPorts: ports(40000, 40001), AvoidPorts: []uint16{40000, 40001}},
		} {
			d.MaxRetries = 1000
			d.OnRetry = func(_ context.Context, r safedial.Retry) { t.Errorf("retried: %v", r.Err) }
			for _, network := range []string{"tcp", "udp"} {
				for kind, dial := range dialsOf(&d) {
					_, err := dial(network, "127.0.0.1:9000")
					assert.EqualError(t, err, "dial "+network+" 127.0.0.1:9000: "+want, kind)
				}
			}
		}
	})
}

// TestCallersPortRange has the caller's hook narrow the choice; the guard narrows
// it further, and never widens it.
func TestCallersPortRange(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		requirePortRange(t)
		nstest.SetLocalPorts(t, 40000, 40099)
		for _, c := range []struct {
			set, want, outside safedial.PortRange // want: to 40050; outside: to 9000
		}{
			{ports(40050, 40052), ports(40050, 40052), ports(40050, 40052)},
			{ports(40049, 40050), ports(40049, 40049), ports(40049, 40050)},
			{ports(40050, 40051), ports(40051, 40051), ports(40050, 40051)},
			{ports(0, 40010), ports(40000, 40010), ports(40000, 40010)},
			{ports(40090, 0), ports(40090, 40099), ports(40090, 40099)},
		} {
			for _, local := range []net.Addr{nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}} {
				for _, port := range []uint16{40050, 9000} {
					want := c.want
					if port == 9000 {
						want = c.outside
					}
					d := safedial.Dialer{LocalAddr: local, Control: func(_, _ string, conn syscall.RawConn) error {
						return nstest.OnSocket(conn, func(fd int) error { return nstest.LimitPorts(fd, c.set.Low, c.set.High) })
					}}
					l := nstest.Serve(t, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
					for range 20 {
						conn, err := d.Dial("tcp", l.Addr().String())
						require.NoError(t, err, "%v", c)
						got := uint16(conn.LocalAddr().(*net.TCPAddr).Port)
						assert.True(t, want.Contains(got), "%v of the caller's, from %v to %d: %d", c.set, local, port, got)
						nstest.Reset(conn)
					}
					l.Close()
				}
			}
		}
	})
}

// TestOnePortServesEachDestination: a port that bind(2) does not take serves one
// connection to each destination.
func TestOnePortServesEachDestination(t *testing.T) {
	skipPortable(t, "net binds a port to LocalAddr")
	nstest.Run(t, func(t *testing.T) {
		const ports = 20
		nstest.SetLocalPorts(t, 40001, 40000+ports)
		here := netip.MustParseAddr("127.0.0.1")
		for name, dial := range map[string]func(remote netip.AddrPort) (net.Conn, error){
			"LocalAddr IP:0": func(remote netip.AddrPort) (net.Conn, error) {
				d := safedial.Dialer{LocalAddr: &net.TCPAddr{IP: here.AsSlice()}}
				return d.Dial("tcp", remote.String())
			},
			"NetDialer with LocalAddr IP:0": func(remote netip.AddrPort) (net.Conn, error) {
				d := safedial.Dialer{LocalAddr: &net.TCPAddr{IP: here.AsSlice()}}
				return d.NetDialer().Dial("tcp", remote.String())
			},
			"DialTCP from nowhere": func(remote netip.AddrPort) (net.Conn, error) {
				return nstest.NetConn(new(safedial.Dialer).DialTCP(t.Context(), "tcp", netip.AddrPort{}, remote))
			},
			"DialTCP from nowhere and a port": func(remote netip.AddrPort) (net.Conn, error) {
				return nstest.NetConn(new(safedial.Dialer).DialTCP(t.Context(), "tcp", netip.AddrPortFrom(netip.Addr{}, 9999), remote))
			},
			"DialTCP from an address": func(remote netip.AddrPort) (net.Conn, error) {
				return nstest.NetConn(new(safedial.Dialer).DialTCP(t.Context(), "tcp", netip.AddrPortFrom(here, 0), remote))
			},
		} {
			t.Run(name, func(t *testing.T) {
				for _, port := range []uint16{9000, 9001} {
					remote := netip.AddrPortFrom(here, port)
					nstest.Serve(t, "tcp", remote.String())
					for i := range ports {
						conn, err := dial(remote)
						require.NoError(t, err, "connection %d to %s", i, remote)
						defer nstest.Reset(conn)
					}
					_, err := dial(remote)
					require.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
				}
			})
		}
	})
}
