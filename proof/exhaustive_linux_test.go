package proof

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/safedial/safedial"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

// sampleOf should have no factor in common with the number of ways to dial, or some
// of them are left out.
var sampleOf = flag.Int("of", 149, "run one of so many combinations of the small scopes; 1 is every")

// TestSmallScopes goes through every state that a few local ports can be in, and
// every way to dial, and holds the outcome to an oracle that knows the kernel's
// rules and nothing of the library.
func TestSmallScopes(t *testing.T) {
	t.Parallel()
	nstest.Run(t, func(t *testing.T) {
		smallScopes(t, kernel{
			portRange: !portable && nstest.HasPortRange(t, 0),
			lateBind:  !portable,
		})
	})
}

// TestSmallScopesWithoutPortRange is the same on a kernel before 6.3.
func TestSmallScopesWithoutPortRange(t *testing.T) {
	t.Parallel()
	nstest.Run(t, func(t *testing.T) {
		withoutOptions(t, unix.IP_LOCAL_PORT_RANGE)
		smallScopes(t, kernel{lateBind: true})
	})
}

// TestSmallScopesWithoutOptions is the same on a kernel before 4.2.
func TestSmallScopesWithoutOptions(t *testing.T) {
	t.Parallel()
	nstest.Run(t, func(t *testing.T) {
		withoutOptions(t, unix.IP_LOCAL_PORT_RANGE, unix.IP_BIND_ADDRESS_NO_PORT)
		smallScopes(t, kernel{})
	})
}

// A kernel is what the library can use of the system. Whether MPTCP sockets have the
// option, too, is all the same: if a dial over MPTCP fails, net dials over TCP.
type kernel struct{ portRange, lateBind bool }

// A portUse is how other sockets have some of the local ports.
type portUse int

const (
	listening portUse = iota
	bound
	toDestination // connected from there to the destination: only that is taken
	toElsewhere   // connected from there to another port
	reserved      // by sysctl
	portUses
)

func (o portUse) String() string {
	return [...]string{"listening", "bound", "connected to the destination", "connected elsewhere", "reserved"}[o]
}

// A portState is a state of the system around the destination's port.
type portState struct {
	kernel
	system   safedial.PortRange
	port     uint16
	live     bool // a server has the port
	how      portUse
	occupied []uint16
}

func (s portState) String() string {
	return fmt.Sprintf("port %d of %s, live %t, %v %v, kernel %+v", s.port, s.system, s.live, s.how, s.occupied, s.kernel)
}

// A dialVariant is a way to dial.
type dialVariant struct {
	nstest.Destination
	udp, mptcp bool
	local      string
	via        string // "Dialer", "NetDialer" or "no retries", a Dialer with MaxRetries -1
}

func dialVariants() []dialVariant {
	var all []dialVariant
	for _, c := range nstest.Destinations {
		udp := c
		udp.Network = "udp" + strings.TrimPrefix(c.Network, "tcp")
		for _, local := range []string{"nil", "zero", "IP:0", "IP:port", "IP:other"} {
			for via := range dialsOf(new(safedial.Dialer)) {
				all = append(all, dialVariant{c, false, false, local, via}, dialVariant{c, false, true, local, via}, dialVariant{udp, true, false, local, via})
			}
			all = append(all, dialVariant{udp, true, false, local, "no retries"})
		}
	}
	return all
}

func (w dialVariant) dial(port uint16) (net.Conn, error) {
	var d safedial.Dialer
	var ip net.IP
	if w.local != "zero" {
		ip = net.ParseIP(w.Own)
	}
	from := map[string]int{"zero": 0, "IP:0": 0, "IP:port": int(port), "IP:other": 9999}
	if number, ok := from[w.local]; ok {
		d.LocalAddr = &net.TCPAddr{IP: ip, Port: number}
		if w.udp {
			d.LocalAddr = &net.UDPAddr{IP: ip, Port: number}
		}
	}
	d.SetMultipathTCP(w.mptcp)
	switch w.via {
	case "no retries":
		d.MaxRetries = -1
	case "NetDialer":
		return d.NetDialer().Dial(w.Network, w.Address(port))
	}
	return d.Dial(w.Network, w.Address(port))
}

// An answer is what may come of a dial.
type answer struct {
	connected  bool
	from       []uint16 // a connection's local port
	refused    bool
	self       bool // the refusal must be a self-connection
	neverSelf  bool // it must not
	noPort     bool // EADDRNOTAVAIL, or EADDRINUSE and EAGAIN where the kernel has them
	portInUse  bool // bind(2) finds the port that was named taken
	explaining string
}

// free returns the ports that a socket can get beside the destination's: if shared,
// also those that others have, because a port serves each destination once.
func (s portState) free(shared bool) (free []uint16) {
	for port := s.system.Low; port <= s.system.High; port++ {
		if port != s.port && (shared || !slices.Contains(s.occupied, port)) {
			free = append(free, port)
		}
	}
	return free
}

// oracle tells what must come of dialing w in s.
func oracle(s portState, w dialVariant) answer {
	switch w.local {
	case "IP:port":
		if s.live {
			return answer{portInUse: true, explaining: "the server has the port"}
		}
		return answer{refused: true, self: true, explaining: "from its own port to its own port"}
	case "IP:other":
		return answer{connected: s.live || w.udp, refused: !s.live && !w.udp, neverSelf: true, from: []uint16{9999}, explaining: "from another port"}
	}

	bindPicks := w.local != "nil" && (w.udp || !s.lateBind)
	// Without IP_LOCAL_PORT_RANGE, TCP searches an even number of ports and so
	// leaves one of an odd number out, by chance (inet_csk_find_open_port,
	// __inet_hash_connect).
	leavesOneOut := !w.udp && !s.portRange && s.system.Len() > 1 && s.system.Len()%2 == 1
	free := s.free(s.how == toElsewhere && !w.udp && !bindPicks)
	ownFree := s.system.Contains(s.port) && !s.live
	switch {
	case len(free) > 0:
		// A NetDialer's UDP dials use one of the two ranges around the destination's port.
		oneRange := w.udp && w.via == "NetDialer" && w.local == "nil" && s.portRange
		// Elsewhere than Linux nothing but a retry has UDP choose another port.
		metItself := portable && w.udp && w.via == "no retries"
		return answer{connected: s.live || w.udp, refused: !s.live && !w.udp || metItself, neverSelf: s.portRange, from: free, noPort: leavesOneOut && len(free) == 1 || oneRange, explaining: "ports are free"}
	case ownFree && (!s.portRange || s.system.Len() == 1 || s.how == reserved && len(s.occupied) == s.system.Len()-1):
		// Once undone, a socket that bind(2) has given a port gets one from connect(2).
		self := s.how != toElsewhere || w.udp || !bindPicks || portable
		odd := !w.udp && s.system.Len() > 1 && s.system.Len()%2 == 1 // connect(2) has no range here
		odd = odd || portable && w.udp                               // while the socket that met itself is kept
		return answer{refused: true, self: self, noPort: odd, explaining: "only the destination's own port is free"}
	}
	return answer{noPort: true, explaining: "no port is free"}
}

func (a answer) check(t *testing.T, s portState, w dialVariant, conn net.Conn, err error) {
	t.Helper()
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("%s\n%+v\n%+v\n%s", s, w, a, fmt.Sprintf(format, args...))
	}
	if conn != nil {
		local := nstest.AddrPort(conn.LocalAddr())
		if safedial.IsSelfConnect(conn) || !a.connected {
			fail("connected %s to %s", local, conn.RemoteAddr())
		}
		if !slices.Contains(a.from, local.Port()) {
			fail("connected from %d", local.Port())
		}
		return
	}
	self := errors.Is(err, safedial.ErrSelfConnect)
	switch {
	case a.refused && errors.Is(err, syscall.ECONNREFUSED):
		if a.self && !self || a.neverSelf && self {
			fail("%v", err)
		}
	case a.noPort && !self && noPort(err):
	case a.portInUse && errors.Is(err, syscall.EADDRINUSE):
	default:
		fail("%v", err)
	}
}

// smallScopes dials in each variant of a sample in each state.
func smallScopes(t *testing.T, k kernel) {
	combinations, ran := 0, 0
	phase := rand.IntN(*sampleOf) // so that many runs see all of them
	variants := dialVariants()
	start := time.Now()
	for width := uint16(1); width <= 6; width++ {
		system := ports(40000, 40000+width-1)
		setLocalPorts(t, system)
		for _, s := range portStates(k, system) {
			var sample []dialVariant
			for _, v := range variants {
				if combinations++; combinations%*sampleOf == phase {
					sample = append(sample, v)
				}
			}
			s.dialAll(t, sample)
			ran += len(sample)
		}
		for port := system.Low - 1; port <= system.High+1; port++ {
			require.Empty(t, nstest.SocketsOn(t, port), "left on port %d of %s", port, system)
		}
	}
	t.Logf("%d of %d combinations in %s, with kernel %+v", ran, combinations, time.Since(start).Round(time.Millisecond), k)
}

// portStates returns every state of the local port range. States with the same
// reserved ports stand together, because the library remembers them for a while.
func portStates(k kernel, system safedial.PortRange) (states []portState) {
	for use := range portUses {
		for subset := range 1 << system.Len() {
			var used []uint16
			for i := range system.Len() {
				if subset>>i&1 == 1 {
					used = append(used, system.Low+uint16(i))
				}
			}
			if len(used) == 0 && use > 0 {
				continue // that is the same for each
			}
			for port := system.Low - 1; port <= system.High+1; port++ {
				if slices.Contains(used, port) {
					continue
				}
				if use != toDestination || len(used) == 0 { // else nobody would be there to be connected to
					states = append(states, portState{k, system, port, false, use, used})
				}
				states = append(states, portState{k, system, port, true, use, used})
			}
		}
	}
	return states
}

// dialAll sets the state up, dials in each variant, and takes it down.
func (s portState) dialAll(t *testing.T, variants []dialVariant) {
	t.Helper()
	if len(variants) == 0 {
		return
	}
	undo := s.build(t)
	setLocalPorts(t, s.system)
	for _, v := range variants {
		conn, err := v.dial(s.port)
		oracle(s, v).check(t, s, v, conn, err)
		if conn != nil && !v.udp {
			awaitReset(t, conn)
		}
		if conn != nil {
			conn.Close()
		}
		if !s.live {
			nstest.RequireFree(t, s.port, "%s %+v", s, v)
		}
	}
	undo()
}
