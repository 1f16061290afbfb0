package proof

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// A kernel is what the library can use of the system. Whether MPTCP sockets have the
// option, too, makes no difference: if a dial over MPTCP fails, net dials over TCP.
type kernel struct {
	portRange, lateBind bool
	oneByOne            bool // connect(2) tries each port of a range (Linux 6.8)
}

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

// portStates returns every state of the local port range.
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
	case "IP:port", ":port", "bound by Control":
		if s.live {
			return answer{portInUse: true, explaining: "the server has the port"}
		}
		return answer{refused: true, self: true, explaining: "from its own port to its own port"}
	case "IP:other":
		return answer{
			connected:  s.live || w.udp,
			refused:    !s.live && !w.udp,
			neverSelf:  true,
			from:       []uint16{9999},
			explaining: "from another port",
		}
	}

	bindPicks := !strings.HasSuffix(w.local, "nil") && (w.udp || !s.lateBind)
	// Without IP_LOCAL_PORT_RANGE, and before Linux 6.8, TCP searches an even number of
	// ports and so leaves one of an odd number out (inet_csk_find_open_port,
	// __inet_hash_connect).
	leavesOneOut := !w.udp && !s.oneByOne && s.system.Len() > 1
	if !s.portRange {
		leavesOneOut = leavesOneOut && s.system.Len()%2 == 1
	}
	free := s.free(s.how == toElsewhere && !w.udp && !bindPicks)
	ownFree := s.system.Contains(s.port) && !s.live
	switch {
	case len(free) > 0:
		// A NetDialer's UDP dials use one of the two ranges around the destination's port.
		oneRange := w.udp && w.via == "NetDialer"
		return answer{
			connected:  s.live || w.udp,
			refused:    !s.live && !w.udp,
			neverSelf:  s.portRange && !leavesOneOut,
			from:       free,
			noPort:     leavesOneOut || oneRange,
			explaining: "ports are free",
		}
	case ownFree:
		// Once undone, a socket that bind(2) has given a port gets one from connect(2).
		self := s.how != toElsewhere || w.udp || !bindPicks || portable
		// With the option, the own port of a loopback address is not tried.
		notTried := s.portRange && !w.udp
		return answer{
			refused:    true,
			self:       self,
			noPort:     leavesOneOut || notTried,
			explaining: "only the destination's own port is free",
		}
	}
	return answer{noPort: true, explaining: "no port is free"}
}

// unchecked reports whether nothing keeps the dial from a connection to itself: a
// NetDialer only has the kernel choose from the ports beside the destination's, if it can.
func (v dialVariant) unchecked(s portState) bool {
	if !v.udp || v.via != "NetDialer" {
		return false
	}
	beside := len(s.free(false)) > 0
	return !s.portRange || !beside || v.local == "IP:port" || v.local == ":port"
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
	op := nstest.OpError(t, err)
	if op.Op != "dial" || op.Net != w.Network {
		fail("%#v", op)
	}
	self := errors.Is(err, safedial.ErrSelfConnect)
	switch {
	case a.refused && errors.Is(err, syscall.ECONNREFUSED):
		if a.self && !self || a.neverSelf && self || op.Timeout() {
			fail("%v", err)
		}
	case a.noPort && !self && noPort(err):
	case a.portInUse && errors.Is(err, syscall.EADDRINUSE):
	default:
		fail("%v", err)
	}
}

// build makes the sockets of the state, and returns what closes them.
func (s portState) build(t *testing.T) (undo func()) {
	t.Helper()
	var closers []func()
	if s.live {
		closers = append(closers, resettingServer(t, s.port))
	}
	elsewhere := uint16(9000)
	if s.how == toElsewhere && len(s.occupied) > 0 {
		closers = append(closers, backlogServer(t, elsewhere))
	}
	if s.how == toDestination {
		elsewhere = s.port
	}
	var numbers []string
	for _, port := range s.occupied {
		switch s.how {
		case reserved:
			numbers = append(numbers, strconv.Itoa(int(port)))
		case listening, bound:
			closers = append(closers, takePort(t, port, s.how == listening))
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
	nstest.Sysctl(t, nstest.ReservedPortsFile, strings.Join(numbers, ",")+"\n")
	return func() {
		for i := range closers {
			closers[len(closers)-1-i]()
		}
	}
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

// resettingServer has a server on the port, in both families and for UDP, which resets
// a connection that sends a byte, so that nothing is left of it.
func resettingServer(t *testing.T, port uint16) (stop func()) {
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
				nstest.Reset(conn)
			})
		}
	})
	return func() {
		l.Close()
		packets.Close()
		group.Wait()
	}
}

// backlogServer has a server on the port whose backlog keeps what connects.
func backlogServer(t *testing.T, port uint16) (stop func()) {
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

func takePort(t *testing.T, port uint16, listen bool) (stop func()) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet6{Port: int(port)}))
	if listen {
		require.NoError(t, unix.Listen(fd, 1))
	}
	return func() { unix.Close(fd) }
}

// connectFrom connects from a port that the kernel chooses because there is no
// other: one that was bound explicitly would be taken for every destination.
func connectFrom(t *testing.T, port uint16, to netip.AddrPort) (stop func()) {
	t.Helper()
	nstest.WriteLocalPorts(t, port, port)
	var sockaddr unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte(to.Addr().AsSlice()), Port: int(to.Port())}
	family := unix.AF_INET
	if to.Addr().Is6() {
		sockaddr, family = &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}, unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	nstest.ResetOnClose(fd)
	require.NoError(t, unix.Connect(fd, sockaddr))
	return func() { unix.Close(fd) }
}
