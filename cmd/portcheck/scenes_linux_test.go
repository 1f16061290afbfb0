package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

// look runs portcheck, once for each form of its output, which must have the same facts.
func look(t *testing.T, args ...string) (r report, text string) {
	t.Helper()
	var asText, asJSON, errs strings.Builder
	status := run(t.Context(), args, &asText, &errs)
	require.Equal(t, status, run(t.Context(), append([]string{"-json"}, args...), &asJSON, &errs))
	require.Empty(t, errs.String())
	require.NoError(t, json.Unmarshal([]byte(asJSON.String()), &r))
	require.Equal(t, r.Found, status == statusFound)
	text = asText.String()
	for _, f := range r.Sockets {
		assert.Contains(t, text, f.Local.String())
		assert.Contains(t, text, f.State)
		assert.Contains(t, text, f.Meaning)
	}
	for _, s := range append(r.Now, r.ForGood...) {
		assert.Contains(t, text, s.Command)
		if !strings.HasPrefix(s.Do, "wait") { // a second may have passed
			assert.Contains(t, text, s.Do)
		}
	}
	return r, text
}

// commands returns the commands of the steps.
func commands(steps []step) (all []string) {
	for _, s := range steps {
		all = append(all, s.Command)
	}
	return all
}

func requireNothing(t *testing.T) {
	t.Helper()
	r, text := look(t)
	require.Empty(t, r.Sockets)
	require.Empty(t, r.Now)
	require.Empty(t, r.ForGood)
	require.Equal(t, "No socket is connected to itself, and no server has a port in the local "+
		"port range 40000-40099 that is not reserved.\n", text)
}

// this returns the process of the test.
func this(t *testing.T) process {
	t.Helper()
	name, err := os.ReadFile("/proc/self/comm")
	require.NoError(t, err)
	return process{PID: os.Getpid(), Name: strings.TrimSpace(string(name))}
}

// dial dials with net, and keeps the connection for the test.
func dial(t *testing.T, network, address string, from net.Addr) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: from}
	conn, err := d.DialContext(t.Context(), network, address)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// connectToSelf connects a socket to itself.
func connectToSelf(network, address string) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		from := netip.MustParseAddrPort(address)
		if network == "udp" {
			dial(t, network, address, net.UDPAddrFromAddrPort(from))
			return
		}
		dial(t, network, address, net.TCPAddrFromAddrPort(from))
	}
}

// leaveTimeWait closes a connection to itself.
func leaveTimeWait(network, address string) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		from := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))
		conn := dial(t, network, address, from)
		require.NoError(t, conn.Close())
		awaitTimeWait(t, conn)
	}
}

func listen(network, address string) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		var l io.Closer
		var err error
		if network == "udp" {
			l, err = net.ListenPacket(network, address)
		} else {
			l, err = net.Listen(network, address)
		}
		require.NoError(t, err)
		t.Cleanup(func() { l.Close() })
	}
}

// connectFrom connects a socket at an address to a server, which stays.
func connectFrom(address, server string) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		listen("tcp", server)(t)
		dial(t, "tcp", server, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address)))
	}
}

// closeFrom is connectFrom, and closes both ends, that at the address first.
func closeFrom(address, server string) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		l, err := net.Listen("tcp", server)
		require.NoError(t, err)
		defer l.Close()
		client := dial(t, "tcp", server, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address)))
		conn, err := l.Accept()
		require.NoError(t, err)
		closeBoth(t, client, conn)
	}
}

// closeBoth closes both ends of a connection. The first is then in TIME_WAIT.
func closeBoth(t *testing.T, first, second net.Conn) {
	t.Helper()
	require.NoError(t, first.Close())
	_, err := second.Read(make([]byte, 1)) // until the FIN is there
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, second.Close())
	awaitTimeWait(t, first)
}

// awaitTimeWait waits until the kernel has a closed connection in TIME_WAIT.
func awaitTimeWait(t *testing.T, conn net.Conn) {
	t.Helper()
	port := conn.LocalAddr().(*net.TCPAddr).AddrPort().Port()
	isWaiting := func(line string) bool { return strings.Fields(line)[3] == "06" }
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(nstest.SocketsOn(t, port), isWaiting)
	}, 10*time.Second, time.Millisecond)
}

// bindOnly binds a socket, and does nothing with it.
func bindOnly(port int) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		t.Cleanup(func() { unix.Close(fd) })
		require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port}))
	}
}

// connect connects a socket whose port the kernel chooses, and keeps it. net.Dialer would
// not keep one that is connected to itself.
func connect(address string) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		to := netip.MustParseAddrPort(address)
		family, port := unix.AF_INET, int(to.Port())
		var dest unix.Sockaddr
		if to.Addr().Is4() {
			dest = &unix.SockaddrInet4{Port: port, Addr: to.Addr().As4()}
		} else {
			family, dest = unix.AF_INET6, &unix.SockaddrInet6{Port: port, Addr: to.Addr().As16()}
		}
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		t.Cleanup(func() { unix.Close(fd) })
		require.NoError(t, unix.Connect(fd, dest))
	}
}

// serveAndConnect is connect to a server.
func serveAndConnect(address string) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		listen("tcp", address)(t)
		connect(address)(t)
	}
}

// requireKernel skips the test on a kernel that is older.
func requireKernel(t *testing.T, major, minor int) {
	t.Helper()
	var name unix.Utsname
	require.NoError(t, unix.Uname(&name))
	var ownMajor, ownMinor int
	_, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &ownMajor, &ownMinor)
	require.NoError(t, err)
	if ownMajor < major || ownMajor == major && ownMinor < minor {
		t.Skipf("Linux %d.%d is older than %d.%d", ownMajor, ownMinor, major, minor)
	}
}
