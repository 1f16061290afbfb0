package proof

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

// build makes the sockets of the scope, and returns what closes them.
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
	if reservedPorts := strings.Join(numbers, ","); s.portRange {
		nstest.SetReservedPorts(t, reservedPorts)
	} else { // the library cannot use what it knows of them, so there is nothing to wait for
		nstest.Sysctl(t, nstest.ReservedPortsFile, reservedPorts+"\n")
	}
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
// who sends a byte, so that nothing is left of it.
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
