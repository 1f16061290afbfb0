//go:build !safedial_portable

package safedial

import (
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

// TestUnparsableDestinationIsRefused: a hook that does not understand where a socket
// is to connect refuses it.
func TestUnparsableDestinationIsRefused(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	file := os.NewFile(uintptr(fd), "socket")
	defer file.Close()
	raw, err := file.SyscallConn()
	require.NoError(t, err)
	for _, address := range []string{
		"", "127.0.0.1", "nonsense:80", "127.0.0.1:-1", "127.0.0.1:65536", "1.2.3:80", "?0102:80",
	} {
		var addrErr *net.AddrError
		assert.ErrorAs(t, plainHook(t.Context(), "tcp4", address, raw), &addrErr, "%q", address)
	}
	assert.NoError(t, plainHook(t.Context(), "tcp4", "[::1]:80", raw), "net refuses it")
	assert.NoError(t, plainHook(t.Context(), "unix", "nonsense", raw))
}

// TestStaleRange dials while the remembered local port range is another than the
// real one: that may cost a retry, and nothing else.
func TestStaleRange(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		// Without the option the kernel chooses an even port, if one is free, as often as it is
		// asked. So a dial may find itself alone in a range of two or three ports.
		findsOther := nstest.HasPortRange(t, 0)
		for _, real := range []PortRange{{40000, 40000}, {40000, 40001}, {39999, 40000}, {39999, 40001}, {50000, 50003}} {
			for _, stale := range []PortRange{
				{40000, 40000}, {30000, 40000}, {40000, 50000}, {32768, 60999}, {50000, 50003}, everyPort,
			} {
				setLocalPorts(t, real)
				for range 10 {
					setCachedRange(stale)
					conn, err := Dial("tcp", "127.0.0.1:40000")
					require.Nil(t, conn, "%v taken for %v", real, stale)
					require.ErrorIs(t, err, syscall.ECONNREFUSED, "%v taken for %v", real, stale)
					if real.Len() > 1 && findsOther { // a retry reads the range
						require.NotErrorIs(t, err, ErrSelfConnect, "%v taken for %v", real, stale)
					}
					nstest.RequireFree(t, 40000)
					setCachedRange(stale)
					conn, err = Dial("udp", "127.0.0.1:40000")
					if real.Len() == 1 {
						require.Error(t, err, "%v taken for %v", real, stale)
						continue
					}
					require.NoError(t, err, "%v taken for %v", real, stale)
					require.False(t, IsSelfConnect(conn), "%v taken for %v", real, stale)
					conn.Close()
				}
			}
		}
	})
}

// TestOtherNamespaceIsNotCrowded has threads in two network namespaces, whose ranges
// begin with different parities, dial in turn.
func TestOtherNamespaceIsNotCrowded(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.RequirePortRange(t, "dials stay flat in cost")
		setLocalPorts(t, PortRange{40000, 40199})
		address := nstest.LongBacklog(t, "127.0.0.1:9000", 500)()
		turn := make(chan bool)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
			defer close(turn)
			if !assert.NoError(t, unix.Unshare(unix.CLONE_NEWNET)) ||
				!assert.NoError(t, os.WriteFile(localPortRangeFile, []byte("40001 40200"), 0)) {
				return
			}
			for <-turn {
				_, _ = Dial("tcp", "127.0.0.1:9000") // unreachable; but it reads the range
				readPorts()
				turn <- true
			}
		}()
		odd := 0
		for range 40 {
			turn <- true
			require.True(t, <-turn)
			conn, err := Dial("tcp", address)
			require.NoError(t, err)
			defer nstest.Reset(conn)
			if addrPort(conn.LocalAddr()).Port()%2 == 1 {
				odd++
			}
		}
		turn <- false
		assert.Zero(t, odd, "the other namespace's range made the destination look crowded")
	})
}

// TestZonesAsNet reads zones as net does.
func TestZonesAsNet(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		if path, err := exec.LookPath("ip"); err == nil {
			_ = exec.Command(path, "link", "property", "add", "dev", "lo", "altname", "loopback-by-another-name").Run()
		}
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0)
		require.NoError(t, err)
		defer unix.Close(fd)
		for zone, want := range map[string]uint32{
			"": 0, "lo": 1, "lo:1": 0, "loopback-by-another-name": 0, "3x": 3, "7": 7, "x3": 0, "-1": 0,
			"16777215": 0xFFFFFF, "99999999999": 0xFFFFFF, "a-name-that-is-too-long": 0,
		} {
			assert.Equal(t, want, zoneID(fd, zone), "%q", zone)
		}
		for _, zone := range []string{"lo", "lo:1", "3x", "1", "1x", "nosuch", "loopback-by-another-name"} {
			address := net.JoinHostPort("fe80::1%"+zone, "80")
			for _, local := range []net.Addr{nil, &net.TCPAddr{IP: net.ParseIP("fe80::2"), Zone: zone}} {
				_, want := (&net.Dialer{Timeout: time.Second, LocalAddr: local}).Dial("tcp", address)
				_, err := (&Dialer{Timeout: time.Second, LocalAddr: local}).Dial("tcp", address)
				require.Error(t, want)
				assert.EqualError(t, err, want.Error())
			}
		}
	})
}

// TestLocalPortRangeOption: an end that the caller leaves open is at its widest.
func TestLocalPortRangeOption(t *testing.T) {
	nstest.RequirePortRange(t, "the kernel never chooses the destination's port")
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	desc := descriptor{fd: fd}
	for set, want := range map[PortRange]PortRange{
		{}: everyPort, {40000, 0}: {40000, 65535}, {0, 40000}: {0, 40000}, {40000, 40001}: {40000, 40001},
	} {
		require.NoError(t, desc.setPortRange(set))
		assert.Equal(t, set, desc.portRange())
		if set != (PortRange{}) {
			assert.Equal(t, want, set.open())
		}
	}
}

// TestKernelClamps compares clamp to the kernel, for ranges that reach over the ends of
// the system's range, or lie beside it.
func TestKernelClamps(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.RequirePortRange(t, "the kernel never chooses the destination's port")
		system := PortRange{40000, 40003}
		setLocalPorts(t, system)
		nstest.Serve(t, "tcp", "127.0.0.1:9000")
		leavesOneOut := !nstest.HasPortRange(t, unix.IPPROTO_MPTCP) // both have changed in Linux 6.8
		for low := uint16(39998); low <= 40005; low++ {
			for high := low; high <= 40005; high++ {
				r := PortRange{low, high}
				want := clamp(r, system)
				if want.Len() == 0 {
					continue
				}
				if leavesOneOut && want.Len() > 1 && want.Len()%2 == 1 {
					want.High--
				}
				assert.Equal(t, want, connectAll(t, r), "%v of %v", r, system)
			}
		}
	})
}

// connectAll returns the ports that the kernel chooses from r until none is left. It
// connects, because bind(2) leaves the last port of an odd number out.
func connectAll(t *testing.T, r PortRange) PortRange {
	t.Helper()
	var got PortRange
	for {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		require.NoError(t, err)
		defer unix.Close(fd)
		setLinger(uintptr(fd), lingerReset)
		require.NoError(t, (&descriptor{fd: fd}).setPortRange(r))
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 9000}); err != nil {
			require.ErrorIs(t, err, unix.EADDRNOTAVAIL)
			return got
		}
		local, err := sockname(fd)
		require.NoError(t, err)
		if got == (PortRange{}) {
			got = PortRange{local.Port(), local.Port()}
		}
		got = PortRange{min(got.Low, local.Port()), max(got.High, local.Port())}
	}
}

// setCachedRange makes the library take r for the local port range, for a tenth of a
// second.
func setCachedRange(r PortRange) {
	recent.Store(&systemPorts{local: r, known: true, read: time.Now()})
}
