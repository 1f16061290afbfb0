//go:build !safedial_portable

package safedial

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A destination is where net is about to connect a socket.
type destination struct {
	netip.AddrPort // the unspecified address: the host itself
	v6, udp        bool
}

// parseDestination reads the arguments of a hook. The address can be an IPv4
// address with a zone, which netip does not parse and net ignores.
func parseDestination(network, address string) (destination, error) {
	d := destination{v6: network[len(network)-1] == '6', udp: isUDP(network)}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return destination{}, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return destination{}, &net.AddrError{Err: "invalid port", Addr: address}
	}
	ip, zone, _ := strings.Cut(host, "%")
	addr := netip.IPv4Unspecified() // net leaves out an empty host
	if ip != "" {
		if addr, err = netip.ParseAddr(ip); err != nil {
			return destination{}, &net.AddrError{Err: "invalid address", Addr: address}
		}
	}
	if d.v6 && addr == netip.IPv4Unspecified() {
		addr = netip.IPv6Unspecified()
	}
	if addr.Is6() && !addr.IsUnspecified() {
		addr = addr.WithZone(zone)
	}
	d.AddrPort = netip.AddrPortFrom(addr, uint16(number))
	return d, nil
}

// refusedByNet reports that net is about to refuse the address, because it is not
// of the socket's family.
func (d destination) refusedByNet() bool { return !d.v6 && !d.Addr().Is4() }

// zoneID returns the index of the interface that zone names, else the number that
// its leading digits are, as net does. The socket is asked, because its network
// namespace counts. Neither an alias (eth0:1) nor an alternative name is the
// interface's own.
func zoneID(fd int, zone string) uint32 {
	if zone == "" {
		return 0
	}
	if ifr, err := unix.NewIfreq(zone); err == nil && unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr) == nil {
		index := ifr.Uint32()
		if unix.IoctlIfreq(fd, unix.SIOCGIFNAME, ifr) == nil && ifr.Name() == zone {
			return index
		}
	}
	const most = 0xFFFFFF
	digits := zone[:len(zone)-len(strings.TrimLeft(zone, "0123456789"))]
	number, err := strconv.ParseUint(digits, 10, 32)
	if digits != "" && (err != nil || number > most) {
		return most
	}
	return uint32(number)
}
