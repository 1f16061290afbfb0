package proof

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"

	"github.com/safedial/safedial"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

// A localCase is a way to have the local port picked.
type localCase struct {
	name  string
	fixed bool // it is the destination's own port
	set   func(d *safedial.Dialer, own string, port uint16)
}

var localCases = []localCase{
	{"kernel's choice", false, func(*safedial.Dialer, string, uint16) {}},
	{"typed nil LocalAddr", false, func(d *safedial.Dialer, _ string, _ uint16) { d.LocalAddr = (*net.TCPAddr)(nil) }},
	{"LocalAddr of zero", false, func(d *safedial.Dialer, _ string, _ uint16) { d.LocalAddr = &net.TCPAddr{} }},
	{"LocalAddr IP:0", false, func(d *safedial.Dialer, own string, _ uint16) {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(own)}
	}},
	{"LocalAddr IP:port", true, func(d *safedial.Dialer, own string, port uint16) {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(own), Port: int(port)}
	}},
	{"LocalAddr :port", true, func(d *safedial.Dialer, _ string, port uint16) {
		d.LocalAddr = &net.TCPAddr{Port: int(port)}
	}},
	{"bound by Control", true, func(d *safedial.Dialer, own string, port uint16) {
		d.Control = func(network, _ string, c syscall.RawConn) error {
			return nstest.OnSocket(c, func(fd int) error { return nstest.BindTo(fd, network, own, port) })
		}
	}},
	{"bound to an address by Control", false, func(d *safedial.Dialer, own string, _ uint16) {
		d.ControlContext = func(_ context.Context, network, _ string, c syscall.RawConn) error {
			return nstest.OnSocket(c, func(fd int) error {
				nstest.BindAddressNoPort(fd)
				return nstest.BindTo(fd, network, own, 0)
			})
		}
	}},
}

// A dialCase is a way into the library.
type dialCase struct {
	name string
	dial func(d *safedial.Dialer, c nstest.Destination, port uint16) (net.Conn, error)
}

var dialCases = []dialCase{
	{"DialContext", func(d *safedial.Dialer, c nstest.Destination, port uint16) (net.Conn, error) {
		return d.DialContext(context.Background(), c.Network, c.Address(port))
	}},
	{"NetDialer", func(d *safedial.Dialer, c nstest.Destination, port uint16) (net.Conn, error) {
		return d.NetDialer().DialContext(context.Background(), c.Network, c.Address(port))
	}},
	{"DialTCP", func(d *safedial.Dialer, c nstest.Destination, port uint16) (net.Conn, error) {
		remote, err := net.ResolveTCPAddr(c.Network, c.Address(port))
		if err != nil {
			return nil, err
		}
		local, _ := d.LocalAddr.(*net.TCPAddr)
		conn, err := d.DialTCP(context.Background(), c.Network, orUnspecified(local), orUnspecified(remote))
		if err != nil {
			return nil, err
		}
		return conn, nil
	}},
	{"package DialTCP", func(d *safedial.Dialer, c nstest.Destination, port uint16) (net.Conn, error) {
		remote, err := net.ResolveTCPAddr(c.Network, c.Address(port))
		if err != nil {
			return nil, err
		}
		local, _ := d.LocalAddr.(*net.TCPAddr)
		conn, err := safedial.DialTCP(c.Network, local, remote)
		if err != nil {
			return nil, err
		}
		return conn, nil
	}},
}

// TestNeverSelfConnects dials a dead port and a live one in every configuration
// in which a socket could connect to itself, with local port ranges of one to
// four ports, and the destination's port at each place in them and beside them.
func TestNeverSelfConnects(t *testing.T) {
	t.Parallel()
	nstest.Run(t, dialEverything)
}

// TestNeverSelfConnectsWithoutPortRange is the same on a kernel before 6.3.
func TestNeverSelfConnectsWithoutPortRange(t *testing.T) {
	t.Parallel()
	nstest.Run(t, func(t *testing.T) {
		withoutOptions(t, unix.IP_LOCAL_PORT_RANGE)
		dialEverything(t)
	})
}

// TestNeverSelfConnectsWithoutOptions is the same on a kernel before 4.2.
func TestNeverSelfConnectsWithoutOptions(t *testing.T) {
	t.Parallel()
	nstest.Run(t, func(t *testing.T) {
		withoutOptions(t, unix.IP_LOCAL_PORT_RANGE, unix.IP_BIND_ADDRESS_NO_PORT)
		dialEverything(t)
	})
}

func dialEverything(t *testing.T) {
	portRange := map[bool]bool{false: nstest.HasPortRange(t, 0), true: nstest.HasPortRange(t, unix.IPPROTO_MPTCP)}
	const first = 40000
	configurations := 0
	for width := uint16(1); width <= 4; width++ {
		system := safedial.PortRange{Low: first, High: first + width - 1}
		setLocalPorts(t, system)
		for port := system.Low - 1; port <= system.High+1; port++ {
			for _, destination := range nstest.Destinations {
				for _, mptcp := range []bool{false, true} {
					for _, local := range localCases {
						for _, via := range dialCases {
							if portable && via.name == "NetDialer" {
								continue // nothing checks its connections
							}
							if via.name == "package DialTCP" && local.name != "kernel's choice" && local.name != "LocalAddr IP:0" {
								continue
							}
							c := configuration{system, port, destination, local, via, mptcp, !portable && portRange[mptcp] && portRange[false]}
							c.dialDead(t)
							c.dialLive(t)
							configurations++
						}
					}
				}
			}
			require.Empty(t, nstest.SocketsOn(t, port), "left behind on port %d of %s", port, system)
		}
	}
	t.Logf("%d configurations", configurations)
}

type configuration struct {
	system      safedial.PortRange
	port        uint16
	destination nstest.Destination
	local       localCase
	via         dialCase
	mptcp       bool
	portRange   bool // the kernel has IP_LOCAL_PORT_RANGE
}

func (c configuration) String() string {
	return fmt.Sprintf("%s %s %q port %d of %s, %s, mptcp %t", c.via.name, c.destination.Network, c.destination.Host, c.port, c.system, c.local.name, c.mptcp)
}

func (c configuration) dial() (net.Conn, error) {
	var d safedial.Dialer
	c.local.set(&d, c.destination.Own, c.port)
	d.SetMultipathTCP(c.mptcp)
	return c.via.dial(&d, c.destination, c.port)
}

// alone reports whether the port is the only one that the socket can get.
func (c configuration) alone() bool {
	return c.local.fixed || c.system == safedial.PortRange{Low: c.port, High: c.port}
}

// dialDead dials while nobody listens: the only answer is a refusal.
func (c configuration) dialDead(t *testing.T) {
	t.Helper()
	for range 2 {
		conn, err := c.dial()
		if conn != nil {
			t.Fatalf("%s: connected %s to %s", c, conn.LocalAddr(), conn.RemoteAddr())
		}
		var op *net.OpError
		require.ErrorAs(t, err, &op, "%s", c)
		require.Equal(t, "dial", op.Op, "%s", c)
		require.Equal(t, c.destination.Network, op.Net, "%s", c)
		require.False(t, op.Timeout(), "%s", c)
		require.ErrorIs(t, err, syscall.ECONNREFUSED, "%s", c)
		if c.alone() {
			require.ErrorIs(t, err, safedial.ErrSelfConnect, "%s", c)
		} else if c.portRange {
			require.NotErrorIs(t, err, safedial.ErrSelfConnect, "%s: the kernel picked the port although it was told not to", c)
		}
		nstest.RequireFree(t, c.port, "%s", c)
	}
}

// dialLive dials while a server listens: the only answers are the server, or
// that no port is left.
func (c configuration) dialLive(t *testing.T) {
	t.Helper()
	l := nstest.Serve(t, c.destination.Network, c.destination.Address(c.port))
	defer l.Close()
	conn, err := c.dial()
	switch {
	case c.local.fixed:
		require.ErrorIs(t, err, syscall.EADDRINUSE, "%s", c)
	case c.alone():
		require.True(t, errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EADDRINUSE), "%s: %v", c, err)
	default:
		require.NoError(t, err, "%s", c)
		nstest.AssertReal(t, conn, "%s", c)
	}
	require.False(t, t.Failed(), "%s", c)
}
