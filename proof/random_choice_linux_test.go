package proof

import (
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"

	"github.com/safedial/safedial/internal/nstest"
)

// Ways to be taken. A port that is connected was chosen by the kernel, so that it is
// free for another destination.
var portUsers = []string{"listening", "bound", "to the destination", "elsewhere", "UDP"}

var hosts = []string{
	"::1", nstest.OwnAddress, "127.0.0.2", "0.0.0.0", "::", "none", "::ffff:127.0.0.1",
	"::ffff:127.0.0.1%lo", "::%lo", "both.test", "two.test", "near.test",
}

// hostsFile has the names of hosts.
const hostsFile = "127.0.0.1 both.test\n::1 both.test\n" +
	"127.0.0.1 two.test\n" + nstest.OwnAddress + " two.test\n" +
	"127.0.0.1 near.test\n127.0.0.2 near.test\n"

const destinationPort = -9 // in localAddrs: the destination's port

// localAddrs are the kinds of LocalAddr that are TCP or UDP addresses.
var localAddrs = map[string]net.TCPAddr{
	"zero":                 {},
	"127.0.0.1:0":          {IP: net.IPv4(127, 0, 0, 1)},
	"4 bytes":              {IP: net.IP{127, 0, 0, 1}},
	"own:0":                {IP: net.ParseIP(nstest.OwnAddress)},
	"[::1]:0":              {IP: net.IPv6loopback},
	"0.0.0.0:0":            {IP: net.IPv4zero},
	"[::]:0":               {IP: net.IPv6unspecified},
	"[::%lo]:0":            {IP: net.IPv6unspecified, Zone: "lo"},
	"[::1%lo]:0":           {IP: net.IPv6loopback, Zone: "lo"},
	":9999":                {Port: 9999},
	"[::]:9999":            {IP: net.IPv6unspecified, Port: 9999},
	"127.0.0.1:9999":       {IP: net.IPv4(127, 0, 0, 1), Port: 9999},
	"foreign:0":            {IP: net.IPv4(192, 0, 2, 1)},
	"destination's port":   {Port: destinationPort},
	"the destination":      {IP: net.IPv4(127, 0, 0, 1), Port: destinationPort},
	"empty, but not nil":   {IP: net.IP{}},
	"IP of no length":      {IP: net.IP{1, 2, 3}},
	"port that is too big": {Port: 70000},
}

// Kinds of LocalAddr that have no address of the network's type.
var oddLocals = []string{"typed nil", "of another network"}

var endings = []string{
	"canceled", "negative Timeout", "past Deadline", "canceled by Control", "canceled by OnRetry",
	waiting, waiting,
}

const (
	farPorts    = 100 // to avoid, below the local port range
	waiting     = "Timeout while it waits"
	waitingLong = "long Timeout while it waits"
)

// newScenario returns the scenario of a seed. Eight seeds in a row share the system's
// state: the library does not read it each time, so that a new one must be waited for.
func newScenario(seed uint64) *scenario {
	r := rand.New(rand.NewPCG(seed/8, 0))
	s := &scenario{Width: r.IntN(8), LowRange: r.IntN(6) == 0}
	for port := range s.Width + 1 {
		if r.IntN(8) == 0 {
			s.Reserved = append(s.Reserved, port)
		}
	}

	r = rand.New(rand.NewPCG(seed, 1))
	s.Port = r.IntN(s.Width+3) - 1
	s.PortZero = r.IntN(40) == 0
	s.Server = oneOf(r, 40, "all", "127.0.0.1", "::1")
	kind := portUsers[r.IntN(len(portUsers))]
	for port := range s.Width + 1 {
		if r.IntN(3) == 0 {
			s.Taken = append(s.Taken, taken{port, kind})
		} else if r.IntN(8) == 0 {
			s.Taken = append(s.Taken, taken{port, portUsers[r.IntN(len(portUsers))]})
		}
	}
	s.Network = oneOf(r, 40, "udp", "udp", "tcp4", "tcp6", "udp4", "udp6")
	s.Host = oneOf(r, 30, hosts...)
	s.Local = oneOf(r, 55, append(slices.Sorted(maps.Keys(localAddrs)), oddLocals...)...)
	s.Control = oneOf(r, 50, slices.Sorted(maps.Keys(controls))...)
	s.End = oneOf(r, 88, endings...)
	s.Way = oneOf(r, 50, "NetDialer", "NetDialer", "Dial", "typed")
	s.Multipath, s.Observed = r.IntN(5) == 0, r.IntN(3) == 0
	s.MaxRetries = []int{0, 0, -1, 1, 5}[r.IntN(5)]
	if r.IntN(5) == 0 {
		s.LocalPorts = []span{randomSpan(r, s.Width)}
	}
	if r.IntN(4) == 0 {
		for range 1 + r.IntN(3) {
			s.AvoidPorts = append(s.AvoidPorts, randomSpan(r, s.Width))
		}
		s.AvoidFar = r.IntN(4) == 0
	}
	s.mend()
	return s
}

// oneOf returns "" in that many percent, else one of the choices.
func oneOf(r *rand.Rand, plain int, choices ...string) string {
	if r.IntN(100) < plain {
		return ""
	}
	return choices[r.IntN(len(choices))]
}

func randomSpan(r *rand.Rand, width int) span {
	low := r.IntN(width+3) - 1
	return span{low, low + r.IntN(width+1)}
}

// mend takes back what does not go together.
func (s *scenario) mend() {
	s.Port = min(s.Port, s.Width+1)
	if s.PortZero {
		s.Port, s.Server = -1, ""
		if s.Control == "binds port dialed" {
			s.Control = ""
		}
	}
	s.Reserved = slices.DeleteFunc(slices.Clone(s.Reserved), func(port int) bool { return port > s.Width })
	s.Taken = slices.DeleteFunc(slices.Clone(s.Taken), func(u taken) bool {
		listens := u.How == "listening" || u.How == "to the destination"
		return u.Port > s.Width || u.Port == s.Port && (s.Server != "" || listens) ||
			s.Server == "" && u.How == "to the destination"
	})
	if !s.hasWay() {
		s.Way = ""
	}
	s.Multipath = s.Multipath && !s.udp()
	if s.Control == "panics" && !s.isLiteral() { // on another goroutine than that of the dial
		s.Control = ""
	}
	if portable {
		s.LocalPorts, s.AvoidPorts = nil, nil // every dial with them fails
	}
	if len(s.AvoidPorts) == 0 {
		s.AvoidFar = false
	}
}

// isLiteral reports whether the destination is one address.
func (s *scenario) isLiteral() bool {
	ip := net.ParseIP(s.host())
	return ip != nil && !ip.IsUnspecified()
}

// hasWay reports whether the scenario can be dialed in its way.
func (s *scenario) hasWay() bool {
	switch s.Way {
	case "NetDialer":
		return !portable // where nothing checks it
	case "Dial":
		return s.End == "" // it has no context
	case "typed":
		local, v4 := localAddrs[s.Local], net.ParseIP(s.host()).To4() != nil
		odd := s.Local != "" && (local.IP.IsUnspecified() || len(local.IP) < net.IPv4len)
		otherFamily := strings.HasSuffix(s.Network, "4") && !v4 || strings.HasSuffix(s.Network, "6") && v4
		return s.isLiteral() && !odd && !otherFamily
	}
	return true
}
