package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sockets returns the TCP and UDP sockets of the network namespace, as sock_diag(7)
// reports them. A socket that comes or goes meanwhile may be missing.
func sockets() ([]socket, error) {
	var found []socket
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		for network, dump := range map[string]func(uint8) ([]*netlink.Socket, error){
			"tcp": netlink.SocketDiagTCP,
			"udp": netlink.SocketDiagUDP,
		} {
			list, err := dump(family)
			if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
				return nil, fmt.Errorf("sock_diag: %s sockets: %w", network, err)
			}
			for _, s := range list {
				found = append(found, socket{
					network: network,
					local:   addrPort(s.ID.Source, s.ID.SourcePort),
					remote:  addrPort(s.ID.Destination, s.ID.DestinationPort),
					state:   stateOf(network, s.State),
					inode:   uint64(s.INode),
				})
			}
		}
	}
	return found, nil
}

func addrPort(ip net.IP, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), port)
}

// stateOf translates a state of the kernel. UDP sockets have two of TCP's: ESTABLISHED
// if connected, and CLOSE.
func stateOf(network string, s uint8) state {
	switch {
	case s == netlink.TCP_TIME_WAIT:
		return waiting
	case s == netlink.TCP_LISTEN, network == "udp" && s == netlink.TCP_CLOSE:
		return listening
	case s == netlink.TCP_CLOSE:
		return other
	}
	return connected
}
