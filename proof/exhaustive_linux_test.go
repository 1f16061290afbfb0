package proof

import (
	"flag"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// sampleOf should have no factor in common with the number of ways to dial, or some
// of them are left out.
var sampleOf = flag.Int("of", 499, "run one of so many combinations of the small scopes; 1 is every")

// sample returns how many combinations there are to one that runs.
func sample() int {
	if testing.Short() {
		return 12**sampleOf + 1
	}
	return *sampleOf
}

// TestSmallScopes goes through every state that a few local ports can be in, and
// every way to dial, and compares the outcome to an oracle that knows the kernel's
// rules and nothing of the library.
func TestSmallScopes(t *testing.T) { isolated(t, smallScopes) }

// TestSmallScopesWithoutPortRange is the same on a kernel before 6.3.
func TestSmallScopesWithoutPortRange(t *testing.T) {
	isolated(t, smallScopes, unix.IP_LOCAL_PORT_RANGE)
}

// TestSmallScopesWithoutOptions is the same on a kernel before 4.2.
func TestSmallScopesWithoutOptions(t *testing.T) {
	isolated(t, smallScopes, unix.IP_LOCAL_PORT_RANGE, unix.IP_BIND_ADDRESS_NO_PORT)
}

// TestNeverSelfConnects dials a closed port and a live one in every configuration in
// which a socket could connect to itself, with local port ranges of one to three
// ports, the destination's port at each place in them and beside them, and the others
// free.
func TestNeverSelfConnects(t *testing.T) { isolated(t, everyConfiguration) }

// TestNeverSelfConnectsWithoutPortRange is the same on a kernel before 6.3.
func TestNeverSelfConnectsWithoutPortRange(t *testing.T) {
	isolated(t, everyConfiguration, unix.IP_LOCAL_PORT_RANGE)
}

// TestNeverSelfConnectsWithoutOptions is the same on a kernel before 4.2.
func TestNeverSelfConnectsWithoutOptions(t *testing.T) {
	isolated(t, everyConfiguration, unix.IP_LOCAL_PORT_RANGE, unix.IP_BIND_ADDRESS_NO_PORT)
}

// smallScopes dials in each variant of a sample in each state.
func smallScopes(t *testing.T) {
	combinations, of := 0, sample()
	phase := rand.IntN(of) // so that many runs see all of them
	variants := dialVariants(
		[]string{"nil", "zero", "IP:0", "IP:port", "IP:other"},
		[]string{"Dialer", "NetDialer", "no retries"},
	)
	inEachState(t, 6, func(portState) (sample []dialVariant) {
		for _, v := range variants {
			if combinations++; combinations%of == phase {
				sample = append(sample, v)
			}
		}
		return sample
	})
}

// everyConfiguration dials in all variants while no other socket has a local port.
func everyConfiguration(t *testing.T) {
	variants := dialVariants(
		[]string{
			"nil",
			"typed nil",
			"zero",
			"IP:0",
			"IP:port",
			":port",
			"IP:other",
			"bound by Control",
			"address bound by Control",
		},
		[]string{"Dialer", "NetDialer", "no retries", "typed", "package"},
	)
	of := sample()/100 + 1 // there are fewer of them
	phase := rand.IntN(of)
	inEachState(t, 3, func(s portState) []dialVariant {
		if len(s.occupied) > 0 {
			return nil
		}
		return slices.DeleteFunc(slices.Clone(variants), func(dialVariant) bool { phase++; return phase%of != 0 })
	})
}

// A dialVariant is a way to dial.
type dialVariant struct {
	nstest.Destination
	udp, mptcp bool
	local      string // what chooses the local port
	via        string // Dialer's and NetDialer's Dial, a Dialer's with MaxRetries -1, DialTCP or DialUDP, package safedial's DialTCP
}

// dialVariants returns those with a local port of these kinds and a way of these.
func dialVariants(locals, vias []string) (all []dialVariant) {
	for _, c := range nstest.Destinations {
		udp := c
		udp.Network = "udp" + strings.TrimPrefix(c.Network, "tcp")
		for _, local := range locals {
			for _, via := range vias {
				for _, v := range []dialVariant{
					{c, false, false, local, via}, {c, false, true, local, via}, {udp, true, false, local, via},
				} {
					if v.exists() {
						all = append(all, v)
					}
				}
			}
		}
	}
	return all
}

func (v dialVariant) exists() bool {
	switch v.via {
	case "NetDialer":
		return !portable && v.takesUDP() // elsewhere than on Linux nothing checks its connections
	case "no retries":
		return v.udp && v.takesUDP()
	case "package":
		return !v.udp && !v.mptcp && (v.local == "nil" || v.local == "IP:0")
	}
	return v.takesUDP()
}

// takesUDP reports that it is not a UDP dial whose port the caller's hook binds.
func (v dialVariant) takesUDP() bool { return !v.udp || !strings.Contains(v.local, "Control") }

// localAddr returns LocalAddr, and whether it is set.
func (v dialVariant) localAddr(port uint16) (local *net.TCPAddr, set bool) {
	switch v.local {
	case "typed nil":
		return nil, true
	case "zero":
		return new(net.TCPAddr), true
	case ":port":
		return tcp("", int(port)), true
	case "IP:0":
		return tcp(v.Own, 0), true
	case "IP:port":
		return tcp(v.Own, int(port)), true
	case "IP:other":
		return tcp(v.Own, 9999), true
	}
	return nil, false
}

func (v dialVariant) dial(t *testing.T, port uint16) (net.Conn, error) {
	t.Helper()
	var d safedial.Dialer
	d.SetMultipathTCP(v.mptcp)
	local, set := v.localAddr(port)
	switch {
	case set && v.udp:
		d.LocalAddr = (*net.UDPAddr)(local)
	case set:
		d.LocalAddr = local
	case v.local == "bound by Control":
		d.Control = v.bind(port)
	case v.local == "address bound by Control":
		d.Control = v.bind(0)
	}
	switch v.via {
	case "NetDialer":
		return d.NetDialer().Dial(v.Network, v.Address(port))
	case "typed", "package":
		remote, err := net.ResolveTCPAddr("tcp"+v.Network[3:], v.Address(port))
		switch {
		case err != nil:
			return nil, err
		case v.via == "package":
			return nstest.NetConn(safedial.DialTCP(v.Network, local, remote))
		case v.udp:
			return nstest.NetConn(d.DialUDP(t.Context(), v.Network, orUnspecified(local), orUnspecified(remote)))
		}
		return nstest.NetConn(d.DialTCP(t.Context(), v.Network, orUnspecified(local), orUnspecified(remote)))
	case "no retries":
		d.MaxRetries = -1
	}
	return d.Dial(v.Network, v.Address(port))
}

// bind returns a hook that binds the socket to a port of the destination's address,
// or to that address alone.
func (v dialVariant) bind(port uint16) controlFunc {
	return func(network, _ string, c syscall.RawConn) error {
		return nstest.OnSocket(c, func(fd int) error {
			if port == 0 {
				nstest.BindAddressNoPort(fd)
			}
			return nstest.BindTo(fd, network, v.Own, port)
		})
	}
}

// inEachState makes every state of local port ranges of one port to widest ports, and
// dials in the variants for it.
func inEachState(t *testing.T, widest uint16, variants func(portState) []dialVariant) {
	t.Helper()
	k := kernel{
		portRange: !portable && nstest.HasOption(t, 0, unix.IP_LOCAL_PORT_RANGE),
		lateBind:  !portable && nstest.HasOption(t, 0, unix.IP_BIND_ADDRESS_NO_PORT),
		oneByOne:  !portable && nstest.HasOption(t, unix.IPPROTO_MPTCP, unix.IP_LOCAL_PORT_RANGE),
	}
	dials, start := 0, time.Now()
	for width := uint16(1); width <= widest; width++ {
		system := ports(40000, 40000+width-1)
		for _, s := range portStates(k, system) {
			if chosen := variants(s); len(chosen) > 0 {
				s.dialAll(t, chosen)
				dials += len(chosen)
			}
		}
		for port := system.Low - 1; port <= system.High+1; port++ {
			require.Empty(t, nstest.SocketsOn(t, port), "left on port %d of %s", port, system)
		}
	}
	t.Logf("%d dials in %s, with kernel %+v", dials, time.Since(start).Round(time.Millisecond), k)
}

// dialAll sets the state up, dials in each variant, and takes it down.
func (s portState) dialAll(t *testing.T, variants []dialVariant) {
	t.Helper()
	undo := s.build(t)
	setLocalPorts(t, s.system.Low, s.system.High)
	for _, v := range variants {
		if v.unchecked(s) {
			continue
		}
		want := oracle(s, v)
		conn, err := v.dial(t, s.port)
		if v.mptcp && noPort(err) && want.connected {
			// The kernel frees the port of a Multipath TCP socket a moment after its close.
			awaitFree(t, want.from)
			conn, err = v.dial(t, s.port)
		}
		want.check(t, s, v, conn, err)
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

// awaitFree waits until no socket has one of the ports.
func awaitFree(t *testing.T, ports []uint16) {
	t.Helper()
	for _, port := range ports {
		require.Eventually(t, func() bool { return len(nstest.SocketsOn(t, port)) == 0 },
			10*time.Second, time.Millisecond, "port %d stays in use", port)
	}
}
