package safedial

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"strings"
)

// A target holds the addresses of a dial.
type target struct {
	network, address string
	local            net.Addr // LocalAddr; nil: none
	remote           net.Addr // of DialTCP and DialUDP; nil: address says it

	// The arguments for net. They differ from the dial's if only addresses of one
	// family can be dialed from local, and net is not told of local.
	forNet, addressForNet string
	anyIPv4               bool // net has an empty host for 0.0.0.0
}

// newTarget returns the target of a dial of address.
func newTarget(network, address string, local net.Addr) target {
	t := target{network: network, address: address, local: local, forNet: network, addressForNet: address}
	from, _ := tcpLocal(local, network)
	if !hookConnects || !from.IsValid() || network != "tcp" {
		return t
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return t // net refuses it
	}
	addr, _ := netip.ParseAddr(host)
	addr = addr.WithZone("").Unmap()
	switch {
	case from.Addr().Is6() && (host == "" || addr == netip.IPv4Unspecified()):
		// From an IPv6 address, net dials the host itself by its IPv6 loopback address.
		// On "tcp6" it takes an empty host, but not 0.0.0.0.
		t.forNet, t.addressForNet, t.anyIPv4 = "tcp6", ":"+port, host != ""
	case from.Addr() == netip.IPv6Unspecified() && addr == netip.IPv6Unspecified():
		t.forNet = "tcp6" // or the dial would fall back to 127.0.0.1
	case from.Addr().IsUnspecified():
	case from.Addr().Is6():
		t.forNet = "tcp6"
	case addr != netip.IPv6Unspecified(): // which net dials from IPv4, too
		t.forNet = "tcp4"
	}
	return t
}

// addrTarget returns the target of a dial from local, if it is not nil, to remote, which
// is one address. It is not ok if net refuses them, or if their families differ.
func addrTarget(network string, local, remote *net.TCPAddr) (t target, ok bool) {
	local, remote = withoutEmptyIP(local), withoutEmptyIP(remote)
	source, sourceOK := tcpLocal(local, network)
	dest, destOK := tcpLocal(remote, network)
	if !sourceOK || !destOK || !dest.IsValid() || !isTCP(network) && !isUDP(network) {
		return t, false
	}
	from, to := source.Addr(), dest.Addr()
	if !source.IsValid() {
		from = to
	}
	if !from.IsUnspecified() && !to.IsUnspecified() && from.Is4() != to.Is4() {
		return t, false
	}
	if to.IsUnspecified() && (!from.IsUnspecified() || from.Is6()) {
		to = from // for its family
	}

	t = target{
		network: network,
		address: remote.String(),
		local:   netAddr(network, local),
		remote:  netAddr(network, remote),
		forNet:  network,
	}
	if dest.Addr().IsUnspecified() { // for which net else tries both families
		t.forNet = socketNetwork(network, to)
	}
	host, port, _ := net.SplitHostPort(t.address)
	switch v6 := strings.HasSuffix(t.forNet, "6"); {
	case v6 && dest.Addr().Is4():
		t.anyIPv4 = host != ""
		host = "" // "tcp6" does not take 0.0.0.0
	case dest.Addr().Is4():
		host, _, _ = strings.Cut(host, "%") // net ignores the zone of an IPv4 address
	}
	t.addressForNet = net.JoinHostPort(host, port)
	return t, true
}

// withoutEmptyIP returns a with an IP of nil instead of an empty one. Where net is given
// an address and no text, it takes both as unspecified.
func withoutEmptyIP(a *net.TCPAddr) *net.TCPAddr {
	if a == nil || a.IP == nil || len(a.IP) > 0 {
		return a
	}
	return &net.TCPAddr{Port: a.Port, Zone: a.Zone}
}

// tcpAddr returns ap in net's form, nil if it is not valid.
func tcpAddr(ap netip.AddrPort) *net.TCPAddr {
	if !ap.IsValid() {
		return nil
	}
	return net.TCPAddrFromAddrPort(ap)
}

// fromNowhere returns the error of a typed dial as Go 1.27 has it. If laddr is not valid,
// Go 1.26 has the unspecified address in its errors.
func fromNowhere(err error, laddrIsValid bool) error {
	op, ok := outermost[*net.OpError](err)
	if !ok || laddrIsValid {
		return err
	}
	return dialError(op.Net, nil, op.Addr, op.Err)
}

// netAddr returns a as an address of the network, and nil for nil.
func netAddr(network string, a *net.TCPAddr) net.Addr {
	switch {
	case a == nil:
		return nil
	case isUDP(network):
		return (*net.UDPAddr)(a)
	}
	return a
}

// socketNetwork returns the network of a socket with these addresses, as net calls a hook
// with it: net makes an IPv6 socket if any of them is an IPv6 address.
func socketNetwork(network string, addrs ...netip.Addr) string {
	if network != "tcp" && network != "udp" {
		return network
	}
	for _, addr := range addrs {
		if addr.Unmap().Is6() {
			return network + "6"
		}
	}
	return network + "4"
}

// shown returns the address that net gives to a hook as the caller's hook is to see it.
func shown(address string, anyIPv4 bool) string {
	if anyIPv4 && strings.HasPrefix(address, ":") {
		return "0.0.0.0" + address
	}
	return address
}

// remoteAddr returns the address that was dialed, in net's form: addr, with the IP and the
// port that the target has as text. They differ if a load balancer has replaced them.
func (t *target) remoteAddr(addr net.Addr) net.Addr {
	if t.remote != nil {
		return t.remote
	}
	host, text, err := net.SplitHostPort(t.address)
	ip, parseErr := netip.ParseAddr(host)
	if err != nil || parseErr != nil && host != "" {
		return addr
	}
	port, err := parsePort(text)
	if err != nil {
		port = addrPort(addr).Port() // of a service
	}
	return netAddr(t.network, &net.TCPAddr{IP: net.IP(ip.AsSlice()).To16(), Port: int(port), Zone: ip.Zone()})
}

// netError returns the error of net's dial as net.Dialer returns it for the target.
func (t *target) netError(err error) error {
	op, ok := outermost[*net.OpError](err)
	if !ok {
		return err
	}
	source, addr := op.Source, op.Addr
	hidden, cause := original(op.Err)
	changed := t.forNet != t.network || t.remote != nil
	if !changed && !hidden && t.local == nil {
		return err
	}
	unsuitable, ok := outermost[*net.AddrError](cause)
	switch {
	case ok && unsuitable.Err == noSuitableAddress && t.local != nil && (changed || addr != nil):
		return dialError(t.network, nil, nil, errNoSuitableAddress(t.local))
	case addr != nil && changed:
		addr = t.remoteAddr(addr)
	}
	if addr != nil {
		source = cmp.Or(source, t.local)
	}
	return dialError(t.network, source, addr, cause)
}

// DialTarget connects to a target in the form that gRPC hands to a custom dialer,
// so that the method fits grpc.WithContextDialer as it is:
//
//	host:port             TCP
//	unix:path             a Unix socket, the path relative or absolute
//	unix:///path          a Unix socket
//	unix:@name            an abstract Unix socket (Linux, unix(7))
//	unix-abstract:name    an abstract Unix socket
//	\x00name              an abstract Unix socket
//
// It also fits other APIs whose dial function takes only an address, such as the
// RegisterDialContext function of github.com/go-sql-driver/mysql and the DialContext
// option of github.com/ClickHouse/clickhouse-go.
//
// The path is not decoded as a URL. DialTarget acts like DialContext with the
// network and the address that the target names. A host called "unix" needs a final
// dot: "unix.:80".
func (d *Dialer) DialTarget(ctx context.Context, target string) (net.Conn, error) {
	network, address := parseTarget(target)
	return d.DialContext(ctx, network, address)
}

// parseTarget follows grpc-go's internal/transport, but does not decode a path
// as a URL: there a custom dialer gets the path as it is.
func parseTarget(target string) (network, address string) {
	if strings.HasPrefix(target, "\x00") {
		return "unix", target
	}
	scheme, rest, _ := strings.Cut(target, ":")
	switch scheme {
	case "unix":
		return "unix", strings.TrimPrefix(rest, "//")
	case "unix-abstract":
		return "unix", "@" + strings.TrimPrefix(rest, "//")
	}
	return "tcp", target
}
