package proof

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/safedial/safedial"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

// TestManyAddresses compares dials of names that have several addresses, some of
// which do not answer.
func TestManyAddresses(t *testing.T) {
	t.Parallel()
	nstest.Run(t, func(t *testing.T) {
		addr := netip.MustParseAddr
		nstest.Serve(t, "tcp", "127.0.0.1:"+livePort)
		nstest.Serve(t, "tcp", "[::1]:40001")
		nstest.Serve(t, "tcp", "127.0.0.1:40001")
		nstest.FullBacklog(t, 9000) // 127.0.0.1
		nstest.FullBacklogIPv6(t, 40002)
		nstest.Serve(t, "tcp", "127.0.0.1:40002")
		resolver := nstest.Zone{
			"both.test":    {addr("::1"), addr("127.0.0.1")},
			"four.test":    {addr("127.0.0.2"), addr("127.0.0.3"), addr("127.0.0.4"), addr("127.0.0.1")},
			"silent.test":  {addr("127.0.0.1"), addr("127.0.0.5")},
			"nothing.test": {},
		}.Resolver(t)
		within := func(d time.Duration) net.Dialer { return net.Dialer{Resolver: resolver, Timeout: d} }
		plain := net.Dialer{Resolver: resolver}
		for _, row := range []parityCase{
			{name: "dual stack", address: "both.test:40001", dialer: plain},
			{name: "dual stack on tcp4", network: "tcp4", address: "both.test:40001", dialer: plain},
			{name: "dual stack on tcp6", network: "tcp6", address: "both.test:40001", dialer: plain},
			{name: "IPv6 refused", address: "both.test:" + livePort, dialer: plain},
			{name: "IPv6 refused, no fast fallback", address: "both.test:" + livePort, dialer: net.Dialer{Resolver: resolver, FallbackDelay: -1}},
			{name: "IPv6 refused, from IPv4", address: "both.test:" + livePort, dialer: net.Dialer{Resolver: resolver, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}},
			{name: "IPv6 silent", address: "both.test:40002", dialer: net.Dialer{Resolver: resolver, FallbackDelay: 30 * time.Millisecond}},
			{name: "IPv6 silent, default delay", address: "both.test:40002", dialer: plain},
			{name: "IPv6 silent, no fast fallback", address: "both.test:40002", dialer: net.Dialer{Resolver: resolver, FallbackDelay: -1, Timeout: 100 * time.Millisecond}},
			{name: "last of four", address: "four.test:" + livePort, dialer: within(time.Minute)},
			{name: "none of four", address: "four.test:9", dialer: within(time.Minute)},
			{name: "none of two families", address: "both.test:9", dialer: plain},
			{name: "deadline among addresses", address: "silent.test:9000", dialer: within(200 * time.Millisecond)},
			{name: "no address", address: "nothing.test:" + livePort, dialer: plain},
			{name: "unknown name", address: "unknown.test:" + livePort, dialer: plain},
			{name: "multipath", address: "both.test:40001", dialer: plain, mptcp: true},
			{name: "Cancel", address: "silent.test:9000", dialer: plain, cancelAfter: 100 * time.Millisecond},
		} {
			row.raced = true // by the addresses, or by the deadline and the next address
			t.Run(row.name, func(t *testing.T) { row.compare(t) })
		}
	})
}

// TestSelfConnectingLeg has ::1 connect to itself while 127.0.0.1 has a server: the
// server wins, whichever leg is first.
func TestSelfConnectingLeg(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		withoutOptions(t, unix.IP_LOCAL_PORT_RANGE) // or the leg would be refused
		resolver := nstest.Zone{"both.test": {netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")}}.Resolver(t)
		nstest.SetLocalPorts(t, 40000, 40001)
		l := nstest.Serve(t, "tcp4", "127.0.0.1:40000")
		for _, delay := range []time.Duration{0, -1, time.Millisecond} {
			self := 0
			for range 50 {
				d := safedial.Dialer{Resolver: resolver, FallbackDelay: delay, OnRetry: func(context.Context, safedial.Retry) { self++ }}
				conn, err := d.Dial("tcp", "both.test:40000")
				require.NoError(t, err)
				assert.Equal(t, l.Addr().String(), conn.RemoteAddr().String())
				nstest.AssertReal(t, conn)
			}
			assert.Zero(t, self, "a leg that met itself must not repeat a dial that another leg has won")
		}
	})
}

// TestGodebugMultipath has GODEBUG, of the process, turn Multipath TCP on.
func TestGodebugMultipath(t *testing.T) {
	if os.Getenv("SAFEDIAL_GODEBUG_TEST") == "" {
		for _, setting := range []string{"multipathtcp=0", "multipathtcp=1", "multipathtcp=3"} {
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestGodebugMultipath$", "-test.v")
			cmd.Env = append(os.Environ(), "SAFEDIAL_GODEBUG_TEST=1", "GODEBUG="+setting)
			output, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s: %s", setting, output)
		}
		return
	}
	l := nstest.Serve(t, "tcp", "127.0.0.1:0")
	protocol := func(m dialer) int {
		conn, err := m.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer nstest.Reset(conn)
		var value int
		require.NoError(t, nstest.OnSocket(nstest.RawConn(t, conn), func(fd int) error {
			value, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
			return err
		}))
		return value
	}
	assert.Equal(t, protocol(new(net.Dialer)), protocol(new(safedial.Dialer)))
	assert.Equal(t, new(net.Dialer).MultipathTCP(), new(safedial.Dialer).MultipathTCP())
}
