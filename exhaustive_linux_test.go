package safedial

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

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
	nstest.Run(t, func(t *testing.T) { smallScopes(t, kernel{portRange: nstest.HasPortRange(t, 0), lateBind: true}) })
}

// TestSmallScopesWithoutPortRange is the same on a kernel before 6.3.
func TestSmallScopesWithoutPortRange(t *testing.T) {
	t.Parallel()
	nstest.Run(t, func(t *testing.T) {
		nstest.WithoutOptions(t, unix.IP_LOCAL_PORT_RANGE)
		smallScopes(t, kernel{lateBind: true})
	})
}

// TestSmallScopesWithoutOptions is the same on a kernel before 4.2.
func TestSmallScopesWithoutOptions(t *testing.T) {
	t.Parallel()
	nstest.Run(t, func(t *testing.T) {
		nstest.WithoutOptions(t, unix.IP_LOCAL_PORT_RANGE, unix.IP_BIND_ADDRESS_NO_PORT)
		smallScopes(t, kernel{})
	})
}

// A kernel is what the system can do.
type kernel struct{ portRange, lateBind bool }

// An occupation is how other sockets have some of the local ports.
type occupation int

const (
	listening occupation = iota
	bound
	toDestination // connected from there to the destination: only that is taken
	toElsewhere   // connected from there to another port
	reserved      // by sysctl
	occupations
)

func (o occupation) String() string {
	return [...]string{"listening", "bound", "connected to the destination", "connected elsewhere", "reserved"}[o]
}

// A scope is a state of the system around the destination's port.
type scope struct {
	kernel
	system   PortRange
	port     uint16
	live     bool // a server has the port
	how      occupation
	occupied []uint16
}

func (s scope) String() string {
	return fmt.Sprintf("port %d of %s, live %t, %v %v, kernel %+v", s.port, s.system, s.live, s.how, s.occupied, s.kernel)
}

// A way is a way to dial.
type way struct {
	destinationCase
	udp, mptcp bool
	local      string
	via        string // "Dialer", "NetDialer" or "no retries", a Dialer with MaxRetries -1
}

func ways() []way {
	var all []way
	for _, c := range destinationCases {
		udp := c
		udp.network = "udp" + strings.TrimPrefix(c.network, "tcp")
		for _, local := range []string{"nil", "zero", "IP:0", "IP:port", "IP:other"} {
			for _, via := range []string{"Dialer", "NetDialer"} {
				all = append(all, way{c, false, false, local, via}, way{c, false, true, local, via}, way{udp, true, false, local, via})
			}
			all = append(all, way{udp, true, false, local, "no retries"})
		}
	}
	return all
}

func (w way) dial(port uint16) (net.Conn, error) {
	var d Dialer
	var ip net.IP
	if w.local != "zero" {
		ip = net.ParseIP(w.own)
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
		return d.NetDialer().Dial(w.network, w.address(port))
	}
	return d.Dial(w.network, w.address(port))
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

// oracle tells what must come of dialling w in s.
func oracle(s scope, w way) answer {
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
	var free []uint16
	for port := s.system.Low; port <= s.system.High; port++ {
		taken := false
		for _, other := range s.occupied {
			taken = taken || other == port
		}
		if taken && s.how == toElsewhere && !w.udp && !bindPicks {
			taken = false // a port serves each destination once
		}
		if !taken && port != s.port {
			free = append(free, port)
		}
	}
	ownFree := s.system.Contains(s.port) && !s.live
	switch {
	case len(free) > 0:
		// A NetDialer's UDP dials use one of the two ranges around the destination's port.
		oneRange := w.udp && w.via == "NetDialer" && w.local == "nil" && s.portRange
		return answer{connected: s.live || w.udp, refused: !s.live && !w.udp, neverSelf: s.portRange, from: free, noPort: leavesOneOut && len(free) == 1 || oneRange, explaining: "ports are free"}
	case ownFree && (!s.portRange || s.system.Len() == 1 || s.how == reserved && len(s.occupied) == s.system.Len()-1):
		// Once undone, a socket that bind(2) has given a port gets one from connect(2).
		self := s.how != toElsewhere || w.udp || !bindPicks
		odd := !w.udp && s.system.Len() > 1 && s.system.Len()%2 == 1 // connect(2) has no range here
		return answer{refused: true, self: self, noPort: odd, explaining: "only the destination's own port is free"}
	}
	return answer{noPort: true, explaining: "no port is free"}
}

func (a answer) check(t *testing.T, s scope, w way, conn net.Conn, err error) {
	t.Helper()
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("%s\n%+v\n%+v\n%s", s, w, a, fmt.Sprintf(format, args...))
	}
	if conn != nil {
		local := addrPort(conn.LocalAddr())
		if IsSelfConnect(conn) || !a.connected {
			fail("connected %s to %s", local, conn.RemoteAddr())
		}
		known := false
		for _, port := range a.from {
			known = known || port == local.Port()
		}
		if !known {
			fail("connected from %d", local.Port())
		}
		return
	}
	self := errors.Is(err, ErrSelfConnect)
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

func smallScopes(t *testing.T, k kernel) {
	combinations, ran := 0, 0
	phase := rand.IntN(*sampleOf) // so that many runs see all of them
	everyWay := ways()
	start := time.Now()
	for width := uint16(1); width <= 6; width++ {
		system := PortRange{40000, 40000 + width - 1}
		for port := system.Low - 1; port <= system.High+1; port++ {
			var others []uint16
			for other := system.Low; other <= system.High; other++ {
				if other != port {
					others = append(others, other)
				}
			}
			for subset := range 1 << len(others) {
				var occupied []uint16
				for i, other := range others {
					if subset>>i&1 == 1 {
						occupied = append(occupied, other)
					}
				}
				for how := range occupations {
					if len(occupied) == 0 && how > 0 {
						continue // that is the same for each
					}
					for _, live := range []bool{false, true} {
						if how == toDestination && len(occupied) > 0 && !live {
							continue // nobody there to be connected to
						}
						s := scope{k, system, port, live, how, occupied}
						var chosen []way
						for _, w := range everyWay {
							if combinations++; combinations%*sampleOf == phase {
								chosen = append(chosen, w)
							}
						}
						s.run(t, chosen)
						ran += len(chosen)
					}
				}
			}
			require.Empty(t, nstest.SocketsOn(t, port), "left on port %d of %s", port, system)
		}
	}
	t.Logf("%d of %d combinations in %s, with kernel %+v", ran, combinations, time.Since(start).Round(time.Millisecond), k)
}

// run sets the scope up, dials in each way, and takes it down.
func (s scope) run(t *testing.T, ways []way) {
	t.Helper()
	if len(ways) == 0 {
		return
	}
	undo := s.build(t)
	setLocalPorts(t, s.system)
	for _, w := range ways {
		conn, err := w.dial(s.port)
		oracle(s, w).check(t, s, w, conn, err)
		if conn != nil && !w.udp {
			awaitReset(t, conn)
		}
		if conn != nil {
			conn.Close()
		}
		if !s.live {
			nstest.RequireFree(t, s.port, "%s %+v", s, w)
		}
	}
	undo()
}

// awaitReset has the server close conn. Only then does the next from
// the same port find no trace of it.
func awaitReset(t *testing.T, conn net.Conn) {
	t.Helper()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err := conn.Write([]byte{0})
	require.NoError(t, err)
	_, err = conn.Read(make([]byte, 1))
	require.Error(t, err)
	require.False(t, errors.Is(err, os.ErrDeadlineExceeded), "no server has closed the connection")
}

// build makes the sockets of the scope, and returns what closes them.
func (s scope) build(t *testing.T) (undo func()) {
	t.Helper()
	var closers []func()
	if s.live {
		closers = append(closers, hangingUp(t, s.port))
	}
	elsewhere := uint16(9000)
	if s.how == toElsewhere && len(s.occupied) > 0 {
		closers = append(closers, keeping(t, elsewhere))
	}
	if s.how == toDestination {
		elsewhere = s.port
	}
	var ports []string
	for _, port := range s.occupied {
		switch s.how {
		case reserved:
			ports = append(ports, strconv.Itoa(int(port)))
		case listening, bound:
			closers = append(closers, holdTCP(t, port, s.how == listening))
		default:
			for _, own := range []string{"127.0.0.1", "::1", nstest.OwnAddress} {
				closers = append(closers, connectFrom(t, port, netip.AddrPortFrom(netip.MustParseAddr(own), elsewhere)))
			}
		}
		if s.how != reserved {
			packets, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
			require.NoError(t, err)
			closers = append(closers, func() { packets.Close() })
		}
	}
	nstest.Sysctl(t, reservedPortsFile, strings.Join(ports, ",")+"\n")
	return func() {
		for i := range closers {
			closers[len(closers)-1-i]()
		}
	}
}

// hangingUp has a server on the port, in both families and for UDP, which resets
// who sends a byte, so that nothing is left of it.
func hangingUp(t *testing.T, port uint16) (stop func()) {
	t.Helper()
	l := listenTCP(t, port)
	packets, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
	require.NoError(t, err)
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				_, _ = conn.Read(make([]byte, 1))
				hangUp(conn)
			})
		}
	})
	return func() {
		l.Close()
		packets.Close()
		group.Wait()
	}
}

// keeping has a server on the port whose backlog keeps what connects.
func keeping(t *testing.T, port uint16) (stop func()) {
	t.Helper()
	l := listenTCP(t, port)
	return func() { l.Close() }
}

func listenTCP(t *testing.T, port uint16) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // whose close is not done when it returns
	l, err := lc.Listen(context.Background(), "tcp", fmt.Sprintf(":%d", port))
	require.NoError(t, err)
	return l
}

func holdTCP(t *testing.T, port uint16, listen bool) (stop func()) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet6{Port: int(port)}))
	if listen {
		require.NoError(t, unix.Listen(fd, 1))
	}
	return func() { unix.Close(fd) }
}

// connectFrom connects from a port that the kernel picks because there is no
// other: one that was bound by name would be taken for every destination.
func connectFrom(t *testing.T, port uint16, to netip.AddrPort) (stop func()) {
	t.Helper()
	nstest.SetLocalPorts(t, port, port)
	fd, err := unix.Socket(map[bool]int{true: unix.AF_INET, false: unix.AF_INET6}[to.Addr().Is4()], unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	setLinger(uintptr(fd), lingerReset)
	s := socket{fd: fd, destination: destination{v6: to.Addr().Is6()}}
	require.NoError(t, unix.Connect(fd, s.sockaddr(to)))
	return func() { unix.Close(fd) }
}
