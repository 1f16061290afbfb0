package proof

import (
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/safedial/safedial"
)

// A scenario is a state of the local ports, and a dial. The ports are counted from the
// first one of the local port range. The zero value of each field is its plainest, so
// that a scenario shrinks to one with more zeros: one local port, which is the
// destination's, and nobody listens there.
type scenario struct {
	Width    int     // how many ports the range has beside the first
	LowRange bool    // the range lies outside the default one
	Reserved []int   // by ip_local_reserved_ports
	Taken    []taken // by other sockets
	Port     int     // the destination's
	PortZero bool    // it is 0
	Server   string  // the addresses that a server has: "", "all", or one of them

	Network, Host, Local string
	Control              string // what the hook does
	End                  string // what ends the dial early
	Way                  string // the method, or NetDialer
	Multipath, Observed  bool   // Observed: OnRetry is set
	MaxRetries           int
	LocalPorts           []span // one, or none
	AvoidPorts           []span
	AvoidFar             bool // many ports that lie below the range, too

	shift int // of the range, by the world
}

// A taken port is one that a socket has.
type taken struct {
	Port int
	How  string
}

// A span is a range of ports, both ends included.
type span struct{ Low, High int }

func (r span) has(port int) bool { return r.Low <= port && port <= r.High }

// String lists what is not plain.
func (s *scenario) String() string {
	var text []string
	for v, i := reflect.ValueOf(s).Elem(), 0; i < v.NumField()-1; i++ {
		if !v.Field(i).IsZero() && (v.Field(i).Kind() != reflect.Slice || v.Field(i).Len() > 0) {
			text = append(text, fmt.Sprintf("%s: %+v", v.Type().Field(i).Name, v.Field(i)))
		}
	}
	return fmt.Sprintf("{%s} (local ports %s, to %s)", strings.Join(text, ", "), s.system(), s.address())
}

// smaller returns the scenarios that have one thing less than s.
func (s *scenario) smaller() (all []*scenario) {
	add := func(field int, value reflect.Value) {
		less := *s
		reflect.ValueOf(&less).Elem().Field(field).Set(value)
		less.mend()
		if !reflect.DeepEqual(&less, s) {
			all = append(all, &less)
		}
	}
	for v, i := reflect.ValueOf(s).Elem(), 0; i < v.NumField()-1; i++ { // without shift
		field := v.Field(i)
		add(i, reflect.Zero(field.Type()))
		switch {
		case field.Kind() == reflect.Int && field.Int() > 0:
			add(i, reflect.ValueOf(int(field.Int()-1)))
		case field.Kind() == reflect.Slice:
			for j := range field.Len() {
				rest := reflect.AppendSlice(reflect.Zero(field.Type()), field.Slice(0, j))
				add(i, reflect.AppendSlice(rest, field.Slice(j+1, field.Len())))
			}
		}
	}
	return all
}

func (s *scenario) first() int {
	if s.LowRange {
		return 20000 + s.shift
	}
	return 40000 + s.shift
}

func (s *scenario) system() safedial.PortRange { return s.portRange(span{0, s.Width}) }

func (s *scenario) portRange(r span) safedial.PortRange {
	return ports(uint16(s.first()+r.Low), uint16(s.first()+r.High))
}

func (s *scenario) port() int {
	if s.PortZero {
		return 0
	}
	return s.first() + s.Port
}

func (s *scenario) network() string {
	if s.Network == "" {
		return "tcp"
	}
	return s.Network
}

// hasOddRange reports whether connect(2) leaves out a port, by chance.
func (s *scenario) hasOddRange() bool { return s.Width > 0 && s.Width%2 == 0 }

func (s *scenario) udp() bool { return strings.HasPrefix(s.Network, "udp") }

func (s *scenario) host() string {
	switch s.Host {
	case "":
		return "127.0.0.1"
	case "none":
		return ""
	}
	return s.Host
}

func (s *scenario) address() string { return net.JoinHostPort(s.host(), fmt.Sprint(s.port())) }

func (s *scenario) limited() bool { return len(s.LocalPorts)+len(s.AvoidPorts) > 0 }

// fixed reports whether the caller chooses the local port.
func (s *scenario) fixed() bool {
	port := localAddrs[s.Local].Port
	return port != 0 && !(s.PortZero && port == destinationPort) || strings.HasPrefix(s.Control, "binds port")
}

// allows reports whether the caller allows the system to choose the port.
func (s *scenario) allows(port int) bool {
	has := func(r span) bool { return r.has(port) }
	return (len(s.LocalPorts) == 0 || has(s.LocalPorts[0])) && !slices.ContainsFunc(s.AvoidPorts, has) &&
		(s.Control != "sets IP_LOCAL_PORT_RANGE" || has(s.ownRange()))
}

func (s *scenario) isName() bool { return strings.HasSuffix(s.Host, ".test") }

// ownRange is what the caller's hook sets IP_LOCAL_PORT_RANGE to.
func (s *scenario) ownRange() span { return span{s.Width / 3, s.Width/3 + s.Width/2} }

// localAddr returns LocalAddr.
func (s *scenario) localAddr() net.Addr {
	a, ok := localAddrs[s.Local]
	if a.Port == destinationPort {
		a.Port = s.port()
	}
	switch {
	case s.Local == "of another network":
		return &net.UnixAddr{Name: "x", Net: "unix"}
	case s.Local == "typed nil" && s.udp():
		return (*net.UDPAddr)(nil)
	case s.Local == "typed nil":
		return (*net.TCPAddr)(nil)
	case !ok:
		return nil
	case s.udp():
		return (*net.UDPAddr)(&a)
	}
	return &a
}

// from returns the address that a socket is bound to.
func (s *scenario) from(v6 bool) (from netip.AddrPort, ok bool) {
	local, ok := localAddrs[s.Local]
	ip, _ := netip.AddrFromSlice(local.IP)
	if ip = ip.Unmap(); !ip.IsValid() || ip.IsUnspecified() {
		ip = netip.IPv4Unspecified()
		if v6 {
			ip = netip.IPv6Unspecified()
		}
	}
	if local.Port == destinationPort {
		local.Port = s.port()
	}
	return netip.AddrPortFrom(ip, uint16(local.Port)), ok
}

// isOdd reports whether net refuses LocalAddr for a socket, or makes it something else.
func (s *scenario) isOdd(a socketAddr) bool {
	local, ok := localAddrs[s.Local]
	if !ok {
		return false
	}
	to, v6 := a.ends()
	local6 := len(local.IP) == net.IPv6len && local.IP.To4() == nil
	switch {
	case local.Port > 65535:
		return true
	case local.IP == nil:
		return false
	case len(local.IP) != net.IPv4len && len(local.IP) != net.IPv6len:
		return true
	}
	if local6 && to.Addr().Is4() { // net's socket is an IPv6 one, safedial's is not
		return !v6 || !local.IP.IsUnspecified() || strings.HasPrefix(s.Control, "binds")
	}
	return local6 && !v6 || v6 && !local6 && !local.IP.IsUnspecified()
}
