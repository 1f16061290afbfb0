package safedial

import (
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// A destination is where net is about to connect a socket.
type destination struct {
	netip.AddrPort // the unspecified address: the local system
	v6             bool
}

// parseDestination reads what net calls a hook with. It is false for networks
// that the guard does not serve, and for addresses that net is about to refuse.
func parseDestination(network, address string) (destination, bool) {
	if network != "tcp4" && network != "tcp6" {
		return destination{}, false
	}
	v6 := network == "tcp6"
	if len(address) > 0 && address[0] == ':' {
		// A TCPAddr without an IP, as net makes of a host that is empty.
		address = "0.0.0.0" + address
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return destination{}, false
	}
	addr := ap.Addr()
	if v6 && addr == netip.IPv4Unspecified() {
		addr = netip.IPv6Unspecified()
	}
	if !v6 && !addr.Is4() {
		return destination{}, false
	}
	return destination{AddrPort: netip.AddrPortFrom(addr, ap.Port()), v6: v6}, true
}

// sockaddr returns the destination for connect(2) on fd.
func (d destination) sockaddr(fd int) unix.Sockaddr {
	if d.v6 {
		return &unix.SockaddrInet6{Port: int(d.Port()), ZoneId: zoneID(fd, d.Addr().Zone()), Addr: d.Addr().As16()}
	}
	return &unix.SockaddrInet4{Port: int(d.Port()), Addr: d.Addr().As4()}
}

// zoneID returns the index of the interface that zone names, or the number that
// it is, or 0 for one that is neither, as net does. The socket is asked, because
// it is its network namespace that counts.
func zoneID(fd int, zone string) uint32 {
	if zone == "" {
		return 0
	}
	if ifr, err := unix.NewIfreq(zone); err == nil && unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr) == nil {
		return ifr.Uint32()
	}
	index, _ := strconv.ParseUint(zone, 10, 32)
	return uint32(index)
}
