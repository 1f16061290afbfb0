package proof

import (
	"context"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// TestContextEndsBetweenParts ends a dial in its hook, while a port is free in one of the
// four parts that AvoidPorts leaves of the local port range. The dial may make the attempt
// that it has begun, which finds that part once in four times, but none in the other parts.
func TestContextEndsBetweenParts(t *testing.T) {
	const dials, most = 100, 60 // 25 are to be expected
	isolated(t, func(t *testing.T) {
		requirePortRange(t, "AvoidPorts hold")
		setLocalPorts(t, 40000, 40007)
		nstest.Echo(t, "127.0.0.1:9000")
		for port := 40000; port < 40006; port += 2 {
			blocker, err := net.Listen("tcp", udp("", port).String())
			require.NoError(t, err)
			defer blocker.Close()
			takeUDPPorts(t, uint16(port), uint16(port))
		}
		for _, byDeadline := range []bool{false, true} {
			for _, local := range []net.Addr{nil, tcp("127.0.0.1", 0), udp("127.0.0.1", 0)} {
				for _, network := range []string{"tcp", "udp"} {
					if local != nil && local.Network() != network {
						continue
					}
					found := 0
					for range dials {
						d := safedial.Dialer{LocalAddr: local, AvoidPorts: everySecond(40001, 40007)}
						if portAfterEnd(t, d, network, byDeadline) {
							found++
						}
					}
					assert.LessOrEqual(t, found, most, "%s from %v, by deadline %t: so many of %d dials went on",
						network, local, byDeadline, dials)
				}
			}
		}
	})
}

// portAfterEnd ends a dial in its hook, and reports whether the socket has got a port. The
// hook keeps a descriptor of the socket, because the dial closes it.
func portAfterEnd(t *testing.T, d safedial.Dialer, network string, byDeadline bool) bool {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if byDeadline {
		d.Timeout = time.Millisecond
	}
	var kept []int
	d.ControlContext = func(ctx context.Context, _, _ string, c syscall.RawConn) error {
		if !byDeadline {
			cancel()
		}
		<-ctx.Done()
		return nstest.OnSocket(c, func(fd int) error {
			duplicate, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
			kept = append(kept, duplicate)
			return os.NewSyscallError("fcntl", err)
		})
	}
	conn, err := d.DialContext(ctx, network, "127.0.0.1:9000")
	if err == nil {
		conn.Close()
	}
	require.Error(t, err)
	hasPort := false
	for _, fd := range kept {
		local, err := unix.Getsockname(fd)
		require.NoError(t, err)
		hasPort = hasPort || local.(*unix.SockaddrInet4).Port != 0
		nstest.ResetOnClose(fd)
		require.NoError(t, unix.Close(fd))
	}
	return hasPort
}

// TestManyPartsAreLinear compares the time of a dial with long lists of ports to avoid, and
// of reserved ports, to the time with lists of an eighth of their length. If each entry of
// one list were compared to each of the other, it would be up to 64 times as long.
func TestManyPartsAreLinear(t *testing.T) {
	if nstest.RaceDetector {
		t.Skip("the race detector changes what takes time")
	}
	nstest.Run(t, func(t *testing.T) { // not beside other tests, which take time, too
		requirePortRange(t, "AvoidPorts hold")
		setLocalPorts(t, 1024, 65535)
		nstest.Echo(t, "127.0.0.1:900")
		for _, network := range []string{"tcp", "udp"} {
			nstest.AssertRatio(t, 6, dialWithLists(t, network, 1750, 10), dialWithLists(t, network, 14000, 80))
		}
	})
}

// dialWithLists returns a function that dials with lists of so many ports to avoid and
// reserved ports.
func dialWithLists(t *testing.T, network string, avoided, reserved uint16) func() {
	t.Helper()
	var list []string
	for _, r := range everySecond(60001, 60001+2*(reserved-1)) {
		list = append(list, r.String())
	}
	d := safedial.Dialer{AvoidPorts: everySecond(30001, 30001+2*(avoided-1))}
	return func() {
		setReservedPorts(t, strings.Join(list, ","))
		conn, err := d.Dial(network, "127.0.0.1:900")
		require.NoError(t, err)
		nstest.Reset(conn)
	}
}

// TestErrorsOfLongLimitsAreShort has dials with long lists fail in every way.
func TestErrorsOfLongLimitsAreShort(t *testing.T) { isolated(t, dialLongLimits) }

// TestErrorsOfLongLimitsAreShortWithoutPortRange is the same on a kernel before 6.3.
func TestErrorsOfLongLimitsAreShortWithoutPortRange(t *testing.T) {
	isolated(t, dialLongLimits, unix.IP_LOCAL_PORT_RANGE)
}

func dialLongLimits(t *testing.T) {
	const most = 300
	setLocalPorts(t, 40000, 40007)
	tests := []struct {
		name   string
		dialer safedial.Dialer
	}{
		{"single ports", safedial.Dialer{AvoidPorts: singlePorts(30000, 49999)}},
		{"every second port, and the rest of the range", safedial.Dialer{
			AvoidPorts: append(everySecond(1, 65535), singlePorts(40000, 40007)...),
		}},
		{"with LocalPorts", safedial.Dialer{
			AvoidPorts: everySecond(1, 65535), LocalPorts: ports(40001, 40001),
		}},
		{"with a hook's range", safedial.Dialer{
			AvoidPorts: singlePorts(40000, 49999),
			Control: onSocket(func(fd int) error {
				_ = nstest.LimitPorts(fd, 40004, 40005) // if the kernel has it
				return nil
			}),
		}},
	}
	for _, test := range tests {
		longest, text := 0, ""
		measure := func(err error) {
			if n := len(err.Error()); n > longest {
				longest, text = n, err.Error()
			}
		}
		test.dialer.OnRetry = func(_ context.Context, r safedial.Retry) { measure(r.Err) }
		for _, network := range []string{"tcp", "udp"} {
			for _, address := range []string{"127.0.0.1:9000", "127.0.0.1:40003"} {
				for _, dial := range dialsOf(&test.dialer) {
					_, err := dial(network, address)
					require.Error(t, err)
					measure(err)
				}
			}
		}
		assert.Less(t, longest, most, "%s: bytes of %.80q…", test.name, text)
	}
}
