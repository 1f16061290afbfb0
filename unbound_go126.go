//go:build !go1.27

package safedial

import (
	"context"
	"net"
	"net/netip"
	"strings"
)

// unbound makes a call of DialTCP or DialUDP whose laddr is not valid. Before Go 1.27
// net takes such a laddr for the unspecified address and binds it, which picks the
// port (https://go.dev/issue/81620). DialContext does not bind, and has these methods'
// outcome if it is given one address, of the network's family.
func (c *call) unbound(ctx context.Context, nd *net.Dialer) (net.Conn, error) {
	network, addr := c.network, c.raddr.Addr().Unmap()
	var remote net.Addr = net.TCPAddrFromAddrPort(c.raddr)
	if c.method == callDialUDP {
		remote = net.UDPAddrFromAddrPort(c.raddr)
	}
	if addr == netip.IPv4Unspecified() && strings.HasSuffix(network, "6") {
		addr = netip.IPv6Unspecified()
	}
	if addr.Is6() && addr.WithZone("").IsUnspecified() && network == remote.Network() {
		network += "6" // or DialContext would try 0.0.0.0 too
	}
	if !fits(remote.Network(), network, addr) {
		conn, err := c.direct(ctx, nd) // which refuses it
		return conn, readdressed(err, c.network, nil, remote)
	}
	conn, err := nd.DialContext(ctx, network, netip.AddrPortFrom(addr, c.raddr.Port()).String())
	return conn, readdressed(err, c.network, nil, remote)
}

// fits reports whether net.Dialer.DialContext takes addr on network as
// net.Dialer.DialTCP or DialUDP does.
func fits(protocol, network string, addr netip.Addr) bool {
	switch network {
	case protocol:
		return true
	case protocol + "4":
		return addr.Is4()
	case protocol + "6":
		return addr.Is6()
	}
	return false
}
