package safedial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

// A destinationCase is a way to name a port of this machine.
type destinationCase struct {
	network, host string
	own           string // the address that the kernel takes for the socket's own
}

var destinationCases = []destinationCase{
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
	{"tcp", nstest.OwnAddress, nstest.OwnAddress},
}

// A localCase is a way to have the local port picked.
type localCase struct {
	name  string
	fixed bool // it is the destination's own port
	set   func(d *Dialer, own string, port uint16)
}

var localCases = []localCase{
	{"kernel's choice", false, func(*Dialer, string, uint16) {}},
	{"typed nil LocalAddr", false, func(d *Dialer, _ string, _ uint16) { d.LocalAddr = (*net.TCPAddr)(nil) }},
	{"LocalAddr of zero", false, func(d *Dialer, _ string, _ uint16) { d.LocalAddr = &net.TCPAddr{} }},
	{"LocalAddr IP:0", false, func(d *Dialer, own string, _ uint16) {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(own)}
	}},
	{"LocalAddr IP:port", true, func(d *Dialer, own string, port uint16) {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(own), Port: int(port)}
	}},
	{"LocalAddr :port", true, func(d *Dialer, _ string, port uint16) {
		d.LocalAddr = &net.TCPAddr{Port: int(port)}
	}},
	{"bound by Control", true, func(d *Dialer, own string, port uint16) {
		d.Control = func(network, _ string, c syscall.RawConn) error {
			return onSocket(c, func(fd int) error { return bindTo(fd, network, own, port) })
		}
	}},
	{"bound to an address by Control", false, func(d *Dialer, own string, _ uint16) {
		d.ControlContext = func(_ context.Context, network, _ string, c syscall.RawConn) error {
			return onSocket(c, func(fd int) error {
				setBindAddressNoPort(fd)
				return bindTo(fd, network, own, 0)
			})
		}
	}},
}

// A dialCase is a way into the library.
type dialCase struct {
	name string
	dial func(d *Dialer, c destinationCase, port uint16) (net.Conn, error)
}

var dialCases = []dialCase{
	{"DialContext", func(d *Dialer, c destinationCase, port uint16) (net.Conn, error) {
		return d.DialContext(context.Background(), c.network, c.address(port))
	}},
	{"NetDialer", func(d *Dialer, c destinationCase, port uint16) (net.Conn, error) {
		return d.NetDialer().DialContext(context.Background(), c.network, c.address(port))
	}},
	{"DialTCP", func(d *Dialer, c destinationCase, port uint16) (net.Conn, error) {
		remote, err := net.ResolveTCPAddr(c.network, c.address(port))
		if err != nil {
			return nil, err
		}
		local, _ := d.LocalAddr.(*net.TCPAddr)
		conn, err := d.DialTCP(context.Background(), c.network, orUnspecified(local), orUnspecified(remote))
		if err != nil {
			return nil, err
		}
		return conn, nil
	}},
	{"package DialTCP", func(d *Dialer, c destinationCase, port uint16) (net.Conn, error) {
		remote, err := net.ResolveTCPAddr(c.network, c.address(port))
		if err != nil {
			return nil, err
		}
		local, _ := d.LocalAddr.(*net.TCPAddr)
		conn, err := DialTCP(c.network, local, remote)
		if err != nil {
			return nil, err
		}
		return conn, nil
	}},
}

func (c destinationCase) address(port uint16) string {
	return net.JoinHostPort(c.host, strconv.Itoa(int(port)))
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
		nstest.WithoutOptions(t, unix.IP_LOCAL_PORT_RANGE)
		dialEverything(t)
	})
}

// TestNeverSelfConnectsWithoutOptions is the same on a kernel before 4.2.
func TestNeverSelfConnectsWithoutOptions(t *testing.T) {
	t.Parallel()
	nstest.Run(t, func(t *testing.T) {
		nstest.WithoutOptions(t, unix.IP_LOCAL_PORT_RANGE, unix.IP_BIND_ADDRESS_NO_PORT)
		dialEverything(t)
	})
}

func dialEverything(t *testing.T) {
	portRange := map[bool]bool{false: nstest.HasPortRange(t, 0), true: nstest.HasPortRange(t, unix.IPPROTO_MPTCP)}
	const first = 40000
	configurations := 0
	for width := uint16(1); width <= 4; width++ {
		system := PortRange{Low: first, High: first + width - 1}
		setLocalPorts(t, system)
		for port := system.Low - 1; port <= system.High+1; port++ {
			for _, destination := range destinationCases {
				for _, mptcp := range []bool{false, true} {
					for _, local := range localCases {
						for _, via := range dialCases {
							if via.name == "package DialTCP" && local.name != "kernel's choice" && local.name != "LocalAddr IP:0" {
								continue
							}
							c := configuration{system, port, destination, local, via, mptcp, portRange[mptcp] && portRange[false]}
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
	system      PortRange
	port        uint16
	destination destinationCase
	local       localCase
	via         dialCase
	mptcp       bool
	portRange   bool // the kernel has IP_LOCAL_PORT_RANGE
}

func (c configuration) String() string {
	return fmt.Sprintf("%s %s %q port %d of %s, %s, mptcp %t", c.via.name, c.destination.network, c.destination.host, c.port, c.system, c.local.name, c.mptcp)
}

func (c configuration) dial() (net.Conn, error) {
	var d Dialer
	c.local.set(&d, c.destination.own, c.port)
	d.SetMultipathTCP(c.mptcp)
	return c.via.dial(&d, c.destination, c.port)
}

// alone reports whether the port is the only one that the socket can get.
func (c configuration) alone() bool {
	return c.local.fixed || c.system == PortRange{Low: c.port, High: c.port}
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
		require.Equal(t, c.destination.network, op.Net, "%s", c)
		require.False(t, op.Timeout(), "%s", c)
		require.ErrorIs(t, err, syscall.ECONNREFUSED, "%s", c)
		if c.alone() {
			require.ErrorIs(t, err, ErrSelfConnect, "%s", c)
		} else if c.portRange {
			require.NotErrorIs(t, err, ErrSelfConnect, "%s: the kernel picked the port although it was told not to", c)
		}
		nstest.RequireFree(t, c.port, "%s", c)
	}
}

// dialLive dials while a server listens: the only answers are the server, or
// that no port is left.
func (c configuration) dialLive(t *testing.T) {
	t.Helper()
	l := serve(t, c.destination.network, c.destination.address(c.port))
	defer l.Close()
	conn, err := c.dial()
	switch {
	case c.local.fixed:
		require.ErrorIs(t, err, syscall.EADDRINUSE, "%s", c)
	case c.alone():
		require.True(t, errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EADDRINUSE), "%s: %v", c, err)
	default:
		require.NoError(t, err, "%s", c)
		assertReal(t, conn, "%s", c)
	}
	require.False(t, t.Failed(), "%s", c)
}
