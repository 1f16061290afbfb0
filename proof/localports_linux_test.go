package proof

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// portDials are the ways to dial that LocalPorts and AvoidPorts apply to.
var portDials = map[string]func(t *testing.T, d safedial.Dialer, network string, remote netip.AddrPort) (net.Conn, error){
	"Dial": func(_ *testing.T, d safedial.Dialer, network string, remote netip.AddrPort) (net.Conn, error) {
		return d.Dial(network, remote.String())
	},
	"NetDialer": func(_ *testing.T, d safedial.Dialer, network string, remote netip.AddrPort) (net.Conn, error) {
		d.AvoidPorts = slices.Clone(d.AvoidPorts)
		nd := d.NetDialer()
		clear(d.AvoidPorts) // later changes do not affect it
		return nd.Dial(network, remote.String())
	},
	"from an address": func(_ *testing.T, d safedial.Dialer, network string, remote netip.AddrPort) (net.Conn, error) {
		local := net.TCPAddrFromAddrPort(netip.AddrPortFrom(remote.Addr(), 0))
		d.LocalAddr = local
		if network == "udp" {
			d.LocalAddr = (*net.UDPAddr)(local)
		}
		return d.Dial(network, remote.String())
	},
	"typed": func(t *testing.T, d safedial.Dialer, network string, remote netip.AddrPort) (net.Conn, error) {
		if network == "udp" {
			return nstest.NetConn(d.DialUDP(t.Context(), network, netip.AddrPort{}, remote))
		}
		return nstest.NetConn(d.DialTCP(t.Context(), network, netip.AddrPortFrom(remote.Addr(), 0), remote))
	},
}

func TestLocalPorts(t *testing.T) {
	isolated(t, func(t *testing.T) {
		requirePortRange(t, "LocalPorts hold")
		setLocalPorts(t, 40000, 40099)
		nstest.Serve(t, "tcp", ":40010")
		for _, c := range []struct{ ports, want safedial.PortRange }{
			{ports(40050, 40052), ports(40050, 40052)},
			{ports(40000, 40000), ports(40000, 40000)},
			{ports(39000, 40003), ports(40000, 40003)},
			{ports(40098, 50000), ports(40098, 40099)},
			{ports(0, 40001), ports(40000, 40001)},
			{ports(1, 65535), ports(40000, 40099)},
			{ports(40009, 40011), ports(40009, 40011)},
		} {
			for _, host := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1%lo", "::ffff:0.0.0.0%lo", "::%lo"} {
				remote := netip.AddrPortFrom(netip.MustParseAddr(host), 40010)
				for _, network := range []string{"tcp", "udp"} {
					for name, dial := range portDials {
						for range 5 {
							conn, err := dial(t, safedial.Dialer{LocalPorts: c.ports}, network, remote)
							require.NoError(t, err, "%s %s %s %v", name, network, host, c.ports)
							got := portOf(conn)
							assert.True(t, c.want.Contains(got) && got != 40010, "%s %s %s %v: %d", name, network, host, c.ports, got)
							if network == "tcp" {
								nstest.AssertReal(t, conn)
							}
							conn.Close()
						}
					}
				}
			}
		}
	})
}

// TestLocalPortsImpossible dials with limits that leave no port: no socket may connect,
// from whatever port, and the error says what leaves none.
func TestLocalPortsImpossible(t *testing.T) {
	isolated(t, func(t *testing.T) {
		requirePortRange(t, "LocalPorts hold")
		setLocalPorts(t, 40000, 40007)
		setReservedPorts(t, "40006-40007")
		callers := onSocket(func(fd int) error { return nstest.LimitPorts(fd, 40004, 40005) })
		for want, d := range map[string]safedial.Dialer{
			"local ports 50000-50010: none in the local port range 40000-40007 (ip_local_port_range)": {LocalPorts: ports(50000, 50010)},
			"local ports 1-39999: none in the local port range 40000-40007 (ip_local_port_range)":     {LocalPorts: ports(1, 39999)},
			"local ports 40005-40004: the first is above the last":                                    {LocalPorts: ports(40005, 40004)},
			"local ports 40005-0: the first is above the last":                                        {LocalPorts: ports(40005, 0)},
			"local ports 40006-40007: all reserved by ip_local_reserved_ports":                        {LocalPorts: ports(40006, 40007)},
			"local ports 40000-40002: none in the range 40004-40005 that the caller's hook has set": {
				LocalPorts: ports(40000, 40002), Control: callers,
			},

			"avoid ports 40004-40005: no other port in the range 40004-40005": {
				AvoidPorts: safedial.Ports(40005, 40004), Control: callers,
			},
			"avoid ports 40000-40005: no other port in the range 40000-40007": {
				AvoidPorts: []safedial.PortRange{ports(40004, 40005), ports(40000, 40002), ports(40003, 40003)},
			},
		} {
			neverConnects(t, d, func(err error) {
				assert.True(t, strings.HasSuffix(err.Error(), ": "+want), "%v, not %s", err, want)
				assert.NotErrorIs(t, err, errors.ErrUnsupported)
			})
		}
	})
}

// TestLocalPortsUnsupported is on a kernel before 6.3.
func TestLocalPortsUnsupported(t *testing.T) {
	isolated(t, func(t *testing.T) {
		setLocalPorts(t, 40000, 40099)
		for want, d := range map[string]safedial.Dialer{
			"local ports 40050-40060":         {LocalPorts: ports(40050, 40060)},
			"avoid ports 40001, 40004, 40006": {AvoidPorts: safedial.Ports(avoided...)},
		} {
			neverConnects(t, d, func(err error) {
				assert.ErrorIs(t, err, errors.ErrUnsupported)
				assert.ErrorIs(t, err, unix.ENOPROTOOPT)
				assert.ErrorContains(t, err, want+": unsupported operation: setsockopt IP_LOCAL_PORT_RANGE: protocol not available")
			})
		}
	}, unix.IP_LOCAL_PORT_RANGE)
}

func neverConnects(t *testing.T, d safedial.Dialer, check func(error)) {
	t.Helper()
	d.MaxRetries, d.OnRetry = 5, notRetried(t)
	for _, host := range []string{"127.0.0.1", "::1"} {
		remote := netip.AddrPortFrom(netip.MustParseAddr(host), 40003)
		l, err := net.Listen("tcp", remote.String())
		require.NoError(t, err)
		for _, network := range []string{"tcp", "udp"} {
			for name, dial := range portDials {
				conn, err := dial(t, d, network, remote)
				require.Nil(t, conn, "%s %s %v %v", name, network, d.LocalPorts, d.AvoidPorts)
				op := nstest.OpError(t, err)
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

// TestLocalPortsAreForTheKernel: a port that is set explicitly is not the kernel's
// choice.
func TestLocalPortsAreForTheKernel(t *testing.T) {
	skipPortable(t, "every dial with LocalPorts fails")
	isolated(t, func(t *testing.T) {
		l := nstest.Serve(t, "tcp", "127.0.0.1:40010")
		for name, d := range map[string]safedial.Dialer{
			"LocalAddr": {LocalAddr: tcp("127.0.0.1", 9999)},
			"Control":   {Control: bindControl("127.0.0.1")},
		} {
			d.LocalPorts = ports(50000, 50010)
			conn, err := d.Dial("tcp", l.Addr().String())
			require.NoError(t, err, name)
			nstest.AssertReal(t, conn)
		}
	})
}

// TestLocalPortsAfterRangeChanges dials while the local port range that safedial has
// read is no longer the host's, so that the kernel ignores what it is told: a
// connection from a port that is not allowed must not be returned.
func TestLocalPortsAfterRangeChanges(t *testing.T) {
	isolated(t, func(t *testing.T) {
		requirePortRange(t, "LocalPorts hold")
		nstest.Echo(t, "127.0.0.1:9000")
		for _, network := range []string{"udp", "tcp"} { // TCP's server has descriptors, too
			for limits, d := range map[string]safedial.Dialer{
				"local ports 50000-50007": {LocalPorts: ports(50000, 50007)},
				"avoid ports":             {AvoidPorts: safedial.Ports(40000, 40001, 40002, 40003, 40004, 40005, 40006, 50003)},
			} {
				for kind, dial := range dialsOf(&d) {
					if network == "udp" && kind == "NetDialer" {
						continue // nothing checks its connections
					}
					for range 10 {
						setLocalPorts(t, 50000, 50007)
						nstest.WriteLocalPorts(t, 40000, 40007)
						descriptors := nstest.OpenDescriptors(t)
						conn, err := dial(network, "127.0.0.1:9000")
						if err == nil {
							assert.True(
								t,
								portOf(conn) == 40007 && limits == "avoid ports",
								"%s %s %s: %d",
								kind,
								network,
								limits,
								portOf(conn),
							)
							nstest.Reset(conn)
						} else if assert.ErrorContains(t, err, limits) && network == "udp" {
							assert.Equal(t, descriptors, nstest.OpenDescriptors(t), "a socket stays open")
						}
					}
				}
			}
		}
	})
}

// TestOnePortServesEachDestination: a port that bind(2) does not take serves one
// connection to each destination.
func TestOnePortServesEachDestination(t *testing.T) {
	skipPortable(t, "net binds a port to LocalAddr")
	isolated(t, func(t *testing.T) {
		const ports = 20
		setLocalPorts(t, 40001, 40000+ports)
		dials := maps.Clone(portDials)
		for _, port := range []uint16{0, 9999} {
			nowhere := netip.AddrPortFrom(netip.Addr{}, port)
			dials[fmt.Sprintf("from port %d of no address", port)] = func(
				t *testing.T, d safedial.Dialer, network string, remote netip.AddrPort,
			) (net.Conn, error) {
				return nstest.NetConn(d.DialTCP(t.Context(), network, nowhere, remote))
			}
		}
		for name, dial := range dials {
			t.Run(name, func(t *testing.T) {
				for _, address := range []string{"127.0.0.1:9000", "127.0.0.1:9001"} {
					nstest.Serve(t, "tcp", address)
					remote := netip.MustParseAddrPort(address)
					for i := range ports {
						conn, err := dial(t, safedial.Dialer{}, "tcp", remote)
						require.NoError(t, err, "connection %d to %s", i, remote)
						defer nstest.Reset(conn)
					}
					_, err := dial(t, safedial.Dialer{}, "tcp", remote)
					require.ErrorIs(t, err, unix.EADDRNOTAVAIL)
				}
			})
		}
	})
}

// TestEveryPortOfOddRange dials until every port is used of ranges with an odd number of
// them. Before Linux 6.8, connect(2) leaves some out.
func TestEveryPortOfOddRange(t *testing.T) {
	isolated(t, func(t *testing.T) {
		requirePortRange(t, "LocalPorts hold")
		setLocalPorts(t, 40000, 40099)
		nstest.Echo(t, "127.0.0.1:9000")
		oneByOne := nstest.HasPortRange(t, unix.IPPROTO_MPTCP) // since 6.8, too
		first := uint16(40000)
		for _, n := range []uint16{3, 5, 9} {
			d := safedial.Dialer{LocalPorts: ports(first, first+n-1)}
			first += n
			conn, err := d.Dial("tcp", "127.0.0.1:9000")
			connected := uint16(0)
			for ; err == nil && connected <= n; connected++ {
				defer nstest.Reset(conn)
				conn, err = d.Dial("tcp", "127.0.0.1:9000")
			}
			assert.ErrorIs(t, err, unix.EADDRNOTAVAIL)
			if oneByOne {
				assert.Equal(t, n, connected)
			} else {
				assert.GreaterOrEqual(t, connected, n/2)
			}
		}
	})
}

// avoided are three of the eight ports of the tests' local port range.
var avoided = []uint16{40006, 40001, 40004}

// TestAvoidPorts dials again and again from a range of eight ports, to a port outside
// of it and to one of its own, without three of them.
func TestAvoidPorts(t *testing.T) {
	isolated(t, func(t *testing.T) {
		requirePortRange(t, "AvoidPorts hold")
		setLocalPorts(t, 40000, 40007)
		for _, address := range []string{"127.0.0.1:9000", "127.0.0.1:40003"} {
			nstest.Echo(t, address)
			for _, network := range []string{"tcp", "udp"} {
				free := []uint16{40000, 40002, 40005, 40007}
				if address == "127.0.0.1:9000" && (network == "udp" || !takesEvenPortsFirst(t, address)) {
					free = append(free, 40003)
				}
				assert.Subset(
					t,
					portsOf(t, safedial.Dial, network, address),
					[]uint16{40004, 40006},
					"the test does not show the effect",
				)
				for kind, dial := range dialsOf(&safedial.Dialer{AvoidPorts: safedial.Ports(avoided...)}) {
					assert.ElementsMatch(t, free, portsOf(t, dial, network, address), "%s %s %s", kind, network, address)
				}
			}
		}
	})
}

// takesEvenPortsFirst reports whether connect(2) takes 40003 of 40002-40003 only if it
// cannot have 40002, as Linux does before 6.8.
func takesEvenPortsFirst(t *testing.T, address string) bool {
	t.Helper()
	limited := net.Dialer{Control: onSocket(func(fd int) error { return nstest.LimitPorts(fd, 40002, 40003) })}
	return !slices.Contains(portsOf(t, limited.Dial, "tcp", address), 40003)
}

// portsOf returns the local ports that the system chooses for 400 dials.
func portsOf(t *testing.T, dial dialFunc, network, address string) []uint16 {
	t.Helper()
	chosen := map[uint16]int{}
	for range 400 {
		conn, err := dial(network, address)
		require.NoError(t, err)
		chosen[portOf(conn)]++
		nstest.Reset(conn)
	}
	t.Logf("%s %s: %v", network, address, chosen)
	return slices.Collect(maps.Keys(chosen))
}

// TestAvoidPortsKeepsServer starts a server while connections of its own program have
// every other port. Then the dial's error is that of a host without free ports.
func TestAvoidPortsKeepsServer(t *testing.T) {
	isolated(t, func(t *testing.T) {
		requirePortRange(t, "AvoidPorts hold")
		setLocalPorts(t, 40000, 40007)
		nstest.Echo(t, "127.0.0.1:9000")
		for network, listen := range map[string]func() (io.Closer, error){
			"tcp": func() (io.Closer, error) { return net.Listen("tcp", "127.0.0.1:40003") },
			"udp": func() (io.Closer, error) { return net.ListenPacket("udp", "127.0.0.1:40003") },
		} {
			for _, avoid := range [][]uint16{{40003}, nil} {
				d := safedial.Dialer{AvoidPorts: safedial.Ports(avoid...), MaxRetries: -1}
				conn, err := d.Dial(network, "127.0.0.1:9000")
				for err == nil {
					defer nstest.Reset(conn)
					conn, err = d.Dial(network, "127.0.0.1:9000")
				}
				assert.True(t, noPort(err), "%v", err)
				_, err = d.NetDialer().Dial(network, "127.0.0.1:9000")
				assert.True(t, noPort(err), "%v", err)
				server, err := listen()
				assert.Equal(t, avoid != nil, err == nil, "%s, avoiding %v: %v", network, avoid, err)
				if err == nil {
					server.Close()
				}
			}
		}
	})
}
