package proof

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// onlyPort is the local port range of tests in which a self-connection is certain.
const onlyPort = 40000

// dialsOf are Dialer's Dial, and NetDialer's, if it is checked.
func dialsOf(d *safedial.Dialer) map[string]func(network, address string) (net.Conn, error) {
	dials := map[string]func(network, address string) (net.Conn, error){"Dialer": d.Dial}
	if !portable {
		dials["NetDialer"] = func(network, address string) (net.Conn, error) { return d.NetDialer().Dial(network, address) }
	}
	return dials
}

// skipPortable skips the test where the library is that of other systems, for which
// something else is promised.
func skipPortable(t *testing.T, promise string) {
	t.Helper()
	if portable {
		t.Skip("elsewhere than on Linux " + promise)
	}
}

// requirePortRange skips the test if the kernel, or the library, has no
// IP_LOCAL_PORT_RANGE.
func requirePortRange(t *testing.T) {
	t.Helper()
	skipPortable(t, "the library does not use IP_LOCAL_PORT_RANGE")
	nstest.RequirePortRange(t)
}

// withoutOptions has the kernel lack the options of IPPROTO_IP. It skips the test if
// the library does not use them.
func withoutOptions(t *testing.T, options ...uint32) {
	t.Helper()
	skipPortable(t, "the library uses no options of IPPROTO_IP")
	nstest.WithoutOptions(t, options...)
}

// ports returns the range of ports from low to high.
func ports(low, high uint16) safedial.PortRange { return safedial.PortRange{Low: low, High: high} }

// setLocalPorts sets the namespace's local port range.
func setLocalPorts(t *testing.T, r safedial.PortRange) {
	t.Helper()
	nstest.SetLocalPorts(t, r.Low, r.High)
}

// takeAllPorts narrows the local port range to r, and connects to address from
// each port of it, until the test ends.
func takeAllPorts(t *testing.T, address string, r safedial.PortRange) {
	t.Helper()
	t.Cleanup(holdPorts(t, address, r))
}

// holdPorts is takeAllPorts until release is called. A port that a server has is left
// to it.
func holdPorts(t *testing.T, address string, r safedial.PortRange) (release func()) {
	t.Helper()
	setLocalPorts(t, r)
	var conns []net.Conn
	for port := r.Low; port <= r.High; port++ {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)}}
		conn, err := d.Dial("tcp", address)
		const listening = " 0A "
		if errors.Is(err, syscall.EADDRINUSE) && strings.Contains(strings.Join(nstest.SocketsOn(t, port), ""), listening) {
			continue // a server has it
		}
		require.NoError(t, err, "port %d is not free, although no server has it", port)
		conns = append(conns, conn)
	}
	return func() {
		for _, conn := range conns {
			nstest.Reset(conn)
		}
		nstest.SetLocalPorts(t, 32768, 60999)
	}
}

// takeAllUDPPorts binds every port of r, until the test ends.
func takeAllUDPPorts(t *testing.T, r safedial.PortRange) (taken []net.PacketConn) {
	t.Helper()
	for port := r.Low; port <= r.High; port++ {
		packets, err := net.ListenPacket("udp", (&net.UDPAddr{Port: int(port)}).String())
		require.NoError(t, err)
		t.Cleanup(func() { packets.Close() })
		taken = append(taken, packets)
	}
	return taken
}

// assertRefused asserts that err is a self-connection. Elsewhere than on Linux UDP may
// have found no port instead, while the socket that met itself was kept.
func assertRefused(t *testing.T, err error, network string, msg ...any) {
	t.Helper()
	if portable && strings.HasPrefix(network, "udp") && noPort(err) {
		return
	}
	assert.ErrorIs(t, err, safedial.ErrSelfConnect, msg...)
	assert.ErrorIs(t, err, syscall.ECONNREFUSED, msg...)
}

// noPort reports whether err is that no local port was found: connect(2)'s
// EADDRNOTAVAIL or EAGAIN, or bind(2)'s EADDRINUSE.
func noPort(err error) bool {
	return slices.ContainsFunc([]error{syscall.EADDRNOTAVAIL, syscall.EADDRINUSE, syscall.EAGAIN}, func(errno error) bool { return errors.Is(err, errno) })
}

// orUnspecified returns addr, with the unspecified address if it has no IP.
func orUnspecified(addr *net.TCPAddr) netip.AddrPort {
	if addr != nil && len(addr.IP) == 0 {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(addr.Port))
	}
	return addr.AddrPort()
}
