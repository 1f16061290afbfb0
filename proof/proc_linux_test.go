//go:build !safedial_portable

package proof

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// TestProc dials where /proc cannot be written, and where there is none: dials end as
// net.Dialer's, and none returns a self-connection.
func TestProc(t *testing.T) {
	for name, hide := range map[string]func() error{
		"ReadOnly": func() error {
			const flags = unix.MS_BIND | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
			return errors.Join(
				unix.Mount("/proc", "/proc", "", unix.MS_BIND|unix.MS_REC, ""),
				unix.Mount("", "/proc", "", unix.MS_REMOUNT|unix.MS_RDONLY|flags, ""))
		},
		"NotMounted": func() error { return unix.Mount("none", "/proc", "tmpfs", 0, "") },
	} {
		for _, port := range []uint16{40000, 20000} { // in the default range, and not
			t.Run(fmt.Sprintf("%s%d", name, port), func(t *testing.T) {
				nstest.Run(t, func(t *testing.T) { dialHidden(t, port, hide, name == "NotMounted") })
			})
		}
	}
}

func dialHidden(t *testing.T, port uint16, hide func() error, unknown bool) {
	t.Helper()
	setLocalPorts(t, port, port+1)
	toldUDP := nstest.HasPortRange(t, 0) // NetDialer has nothing else for UDP
	nstest.Serve(t, "tcp", "127.0.0.1:9000")
	require.NoError(t, hide())
	nstest.AwaitPortsRead()
	_, err := safedial.LocalPortRange()
	require.Equal(t, unknown, err != nil, err)
	for _, network := range []string{"tcp", "udp"} {
		for _, address := range []string{"127.0.0.1:9000", "127.0.0.1:9001", "[::1]:9001"} {
			_, want := ended(net.Dial(network, address))
			for kind, dial := range dialsOf(new(safedial.Dialer)) {
				_, err := ended(dial(network, address))
				assert.Equal(t, want, err, "%s %s %s", kind, network, address)
			}
		}
	}
	own := fmt.Sprintf("127.0.0.1:%d", port)
	for range 100 {
		for kind, dial := range dialsOf(new(safedial.Dialer)) {
			isSelf, err := ended(dial("tcp", own))
			require.False(t, isSelf, kind)
			require.Contains(t, err, "connection refused", kind)
			isSelf, err = ended(dial("udp", own))
			if kind == "Dialer" || toldUDP {
				require.False(t, isSelf, "%s udp", kind)
			}
			require.Empty(t, err, "%s udp", kind)
		}
	}
	server, err := net.Listen("tcp", own)
	require.NoError(t, err, "the port is blocked")
	server.Close()
}

// TestLimitsWithoutProc dials with limits where the local port range cannot be read. It is
// not known then, but the limits hold: the connection itself proves its port.
func TestLimitsWithoutProc(t *testing.T) {
	tests := []struct {
		name string
		hide func(t *testing.T)
	}{
		{"Hidden", hideSysctls},
		{"Landlock", denyReading},
		{"NoDescriptor", leaveOneDescriptor},
	}
	for _, test := range tests {
		for _, first := range []uint16{20000, 40000} { // outside of the default range, and in it
			t.Run(fmt.Sprintf("%s%d", test.name, first), func(t *testing.T) {
				isolated(t, func(t *testing.T) { dialLimitsWithoutProc(t, first, test.hide) })
			})
		}
	}
}

func dialLimitsWithoutProc(t *testing.T, first uint16, hide func(t *testing.T)) {
	t.Helper()
	requirePortRange(t, "LocalPorts and AvoidPorts hold")
	last := first + 999
	setLocalPorts(t, first, last)
	// Nobody accepts the connections, which would take descriptors of this process.
	address := nstest.LongBacklog(t, "127.0.0.1:9000", 3900)()
	requireRangeInHook(t, address, true) // the first dial of a process opens what stays open
	hide(t)
	requireRangeInHook(t, address, false)
	nstest.AwaitPortsRead()

	tests := []struct {
		name   string
		dialer safedial.Dialer
	}{
		{"avoid the first 100", avoiding(ports(first, first+99))},
		{"avoid the first 900", avoiding(ports(first, first+899))},
		{"avoid the last 900", avoiding(ports(first+100, last))},
		{"avoid every second port", avoiding(everySecond(first, last)...)},
		{"the last 100", safedial.Dialer{LocalPorts: ports(first+900, 65535)}},
		{"100 in the middle", safedial.Dialer{LocalPorts: ports(first+500, first+599)}},
	}
	for _, test := range tests {
		for _, network := range []string{"tcp", "udp"} {
			for kind, dial := range dialsOf(&test.dialer) {
				if kind == "NetDialer" && network == "udp" {
					continue // nothing checks its connections
				}
				var count tally
				for range 100 {
					conn, err := dial(network, address)
					if network == "udp" && errors.Is(err, syscall.EMFILE) {
						continue // a socket is kept while the next one is made
					}
					count.add(&test.dialer)(conn, err)
				}
				count.assertZero(t, fmt.Sprintf("%s: %s of %s", test.name, network, kind))
			}
		}
	}
}

// requireRangeInHook requires that the local port range can be read during a dial, or that
// it cannot.
func requireRangeInHook(t *testing.T, address string, known bool) {
	t.Helper()
	var err error
	d := net.Dialer{Control: func(string, string, syscall.RawConn) error {
		_, err = safedial.LocalPortRange()
		return nil
	}}
	conn, dialErr := d.Dial("tcp", address)
	require.NoError(t, dialErr)
	nstest.Reset(conn)
	require.Equal(t, known, err == nil, "the local port range: %v", err)
}

// denyReading has Landlock deny the test's thread to read any file.
func denyReading(t *testing.T) {
	t.Helper()
	handled := uint64(unix.LANDLOCK_ACCESS_FS_READ_FILE) // the first field of struct landlock_ruleset_attr
	size := unsafe.Sizeof(handled)                       // the oldest kernels know that field alone
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&handled)), size, 0)
	if errno == unix.ENOSYS || errno == unix.EOPNOTSUPP {
		t.Skip("the kernel has no Landlock")
	}
	require.Zero(t, errno, "landlock_create_ruleset")
	defer unix.Close(int(fd))
	runtime.LockOSThread() // and never unlocked: no other goroutine may get the thread
	require.NoError(t, unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	_, _, errno = unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0)
	require.Zero(t, errno, "landlock_restrict_self")
}

// leaveOneDescriptor leaves the process one descriptor: that of the socket it dials with.
func leaveOneDescriptor(t *testing.T) {
	t.Helper()
	lowest, err := unix.Dup(0)
	require.NoError(t, err)
	require.NoError(t, unix.Close(lowest))
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	t.Cleanup(func() { assert.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)) })
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(lowest) + 1, Max: limit.Max}))
}
