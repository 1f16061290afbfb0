package safedial

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
)

// A target holds the addresses of a dial.
type target struct {
	network, address string
	local            net.Addr // LocalAddr; nil: none
	remote           net.Addr // of DialTCP and DialUDP; nil: address says it

	// The arguments for net, if they have to say which family of addresses can be
	// dialed from local.
	forNet, addressForNet string
}

// newTarget returns the target of a dial of address.
func newTarget(network, address string, local net.Addr) target {
	t := target{network: network, address: address, local: local, forNet: network, addressForNet: address}
	from, _ := bindable(local, network)
	if !hookBinds || !from.IsValid() || from.Addr().IsUnspecified() || network != "tcp" && network != "udp" {
		return t
	}
	host, port, _ := net.SplitHostPort(address)
	switch addr, _ := netip.ParseAddr(host); {
	case from.Addr().Is6():
		t.forNet = network + "6"
		if addr == netip.IPv4Unspecified() {
			t.addressForNet = ":" + port
		}
	case addr.WithZone("") != netip.IPv6Unspecified(): // which net dials from IPv4, too
		t.forNet = network + "4"
	}
	return t
}

// addrTarget returns the target of a dial from local, if it is not nil, to remote,
// one address. It is not ok if net refuses them, or if their families differ.
func addrTarget(network string, local, remote net.Addr) (t target, ok bool) {
	source, sourceOK := bindable(local, network)
	dest, destOK := bindable(remote, network)
	if !sourceOK || !destOK || !dest.IsValid() || !isTCP(network) && !isUDP(network) {
		return t, false
	}
	from, to := source.Addr(), dest.Addr()
	if !source.IsValid() {
		local, from = nil, to
	}
	if !from.IsUnspecified() && !to.IsUnspecified() && from.Is4() != to.Is4() {
		return t, false
	}
	if to.IsUnspecified() && !from.IsUnspecified() {
		to = from // for its family
	}
	t = target{network: network, address: remote.String(), local: local, remote: remote, forNet: network}
	if dest.Addr().IsUnspecified() { // for which net else tries both families
		t.forNet = socketNetwork(network, netip.AddrPortFrom(to, 0))
	}
	host, port, _ := net.SplitHostPort(t.address)
	switch v6 := strings.HasSuffix(t.forNet, "6"); {
	case v6 && dest.Addr().Is4():
		host = "" // 0.0.0.0 is "::" to an IPv6 socket
	case dest.Addr().Is4():
		host, _, _ = strings.Cut(host, "%") // net ignores the zone of an IPv4 address
	}
	t.addressForNet = net.JoinHostPort(host, port)
	return t, true
}

// remoteAddr returns the address that was dialed, in net's form: addr, unless the
// target says more.
func (t *target) remoteAddr(addr net.Addr) net.Addr {
	host, text, _ := net.SplitHostPort(t.address)
	port, err := parsePort(text)
	ip, parseErr := netip.ParseAddr(host)
	if t.remote != nil || err != nil || parseErr != nil && host != "" {
		return cmp.Or(t.remote, addr)
	}
	literal := &net.TCPAddr{IP: ip.AsSlice(), Port: int(port), Zone: ip.Zone()}
	if isUDP(t.network) {
		return (*net.UDPAddr)(literal)
	}
	return literal
}

// asNet returns the error of a dial as net.Dialer returns it, if it binds local
// itself.
func (t *target) asNet(err error) error {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok {
		return err
	}
	source, addr := op.Source, op.Addr
	hidden, cause := unhide(op.Err)
	changed := t.forNet != t.network || t.remote != nil
	if !changed && t.local == nil && !hidden {
		return err
	}
	switch unsuitable, ok := errors.AsType[*net.AddrError](cause); {
	case addr != nil && changed:
		source, addr = cmp.Or(source, t.local), t.remoteAddr(addr)
	case addr != nil:
		source = cmp.Or(source, t.local)
	case ok && changed && unsuitable.Err == noSuitableAddress:
		cause = errNoSuitableAddress(t.local)
	}
	return dialError(t.network, source, addr, cause)
}

// hasPort reports whether LocalAddr has a port, which every attempt would get.
func hasPort(local net.Addr) bool { return addrPort(local).Port() != 0 }

// socketNetwork returns the network of a socket that dials dest, as net calls a
// hook with it.
func socketNetwork(network string, dest netip.AddrPort) string {
	switch {
	case network != "tcp" && network != "udp":
		return network
	case !dest.Addr().IsValid() || dest.Addr().Unmap().Is4():
		return network + "4"
	}
	return network + "6"
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
