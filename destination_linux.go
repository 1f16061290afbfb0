package safedial

import (
	"net"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// A destination is where net is about to connect a socket.
type destination struct {
	netip.AddrPort // the unspecified address: the local system
	v6, udp        bool
}

// parseDestination reads what net calls a hook with. It is false for networks
// that the guard does not serve, and for addresses that net is about to refuse.
func parseDestination(network, address string) (destination, bool) {
	if !isTCP(network) && !isUDP(network) {
		return destination{}, false
	}
	v6 := network[len(network)-1] == '6'
	if len(address) > 0 && address[0] == ':' {
		// An address without an IP, as net makes of a host that is empty.
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
	return destination{AddrPort: netip.AddrPortFrom(addr, ap.Port()), v6: v6, udp: isUDP(network)}, true
}

// sockaddr returns the address in the form that a socket of the destination's
// family takes, until it is called again.
func (a *attempt) sockaddr(ap netip.AddrPort) unix.Sockaddr {
	if a.v6 {
		a.inet6.Port, a.inet6.ZoneId, a.inet6.Addr = int(ap.Port()), zoneID(a.fd, ap.Addr().Zone()), ap.Addr().As16()
		return &a.inet6
	}
	a.inet4.Port, a.inet4.Addr = int(ap.Port()), ap.Addr().As4()
	return &a.inet4
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

// bind binds the socket to local as net does, but leaves the port to connect(2)
// if it is 0.
func (a *attempt) bind(local net.Addr) error {
	ap := addrPort(local)
	if ap.Port() == 0 {
		bindAddressOnly(a.fd)
	}
	addr := ap.Addr().Unmap()
	switch {
	case !addr.IsValid() || addr.IsUnspecified():
		addr = netip.IPv4Unspecified()
		if a.v6 {
			addr = netip.IPv6Unspecified()
		}
	case addr.Is4() == a.v6:
		return &net.AddrError{Err: "no suitable address found", Addr: local.String()}
	}
	return os.NewSyscallError("bind", unix.Bind(a.fd, a.sockaddr(netip.AddrPortFrom(addr, ap.Port()))))
}
