package proof

import (
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/safedial/safedial"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

// oddPorts returns how many of n connections to address come from a port of the
// parity that the kernel leaves to servers, and closes them.
func oddPorts(t *testing.T, dial dialFunc, address string, n int) (odd int) {
	t.Helper()
	for range n {
		conn, err := dial("tcp", address)
		require.NoError(t, err)
		defer nstest.Reset(conn)
		if portOf(conn)%2 == 1 {
			odd++
		}
	}
	return odd
}

// TestCrowdedDestination dials a destination until the ports of the first parity are
// used up. From then on its dials get ports of both, and dials to another destination
// as many of the other parity as with net.Dialer.
func TestCrowdedDestination(t *testing.T) {
	isolated(t, func(t *testing.T) {
		requirePortRange(t, "dials stay flat in cost")
		setLocalPorts(t, 40000, 40199)
		crowdedAddress := crowdDestination(t)
		if nstest.HasPortRange(t, unix.IPPROTO_MPTCP) { // since 6.8 the option has connect(2) take both parities
			assert.Positive(
				t,
				oddPorts(t, safedial.Dial, crowdedAddress, 40),
				"the crowded destination has the option for a while",
			)
		}
	})
}

// TestCrowdedDestinationWithoutProc is on a system that does not tell its port range.
func TestCrowdedDestinationWithoutProc(t *testing.T) {
	isolated(t, func(t *testing.T) {
		requirePortRange(t, "dials stay flat in cost")
		nstest.WriteLocalPorts(t, 40000, 40199)
		require.NoError(t, unix.Mount("none", "/proc/sys", "tmpfs", 0, ""))
		_, err := safedial.LocalPortRange()
		require.ErrorIs(t, err, os.ErrNotExist)
		crowdDestination(t)
	})
}

func crowdDestination(t *testing.T) (address string) {
	t.Helper()
	address, quiet := nstest.LongBacklog(t, "127.0.0.1:9000", 500)(), nstest.LongBacklog(t, "127.0.0.1:9001", 500)()
	for range 120 {
		conn, err := safedial.Dial("tcp", address)
		require.NoError(t, err)
		defer nstest.Reset(conn)
	}
	withNet := oddPorts(t, net.Dial, quiet, 40)
	for kind, dial := range dialsOf(new(safedial.Dialer)) {
		assert.LessOrEqual(t, oddPorts(t, dial, quiet, 40), withNet, "%s beside a crowded destination", kind)
	}
	return address
}

// TestOptionOnlyWhereNeeded asks connections whether the kernel was told which ports
// to choose from.
func TestOptionOnlyWhereNeeded(t *testing.T) {
	isolated(t, func(t *testing.T) {
		requirePortRange(t, "the kernel never chooses the destination's port")
		setLocalPorts(t, 40000, 40099)
		nstest.Serve(t, "tcp", "127.0.0.1:9000")
		nstest.Serve(t, "tcp", "127.0.0.1:40010")
		nstest.Serve(t, "tcp", "127.0.0.1:40011")
		callers := safedial.Dialer{Control: onSocket(func(fd int) error { return nstest.LimitPorts(fd, 40001, 40051) })}
		for range 2 { // whose odd ports do not mean that the others are used up
			conn, err := callers.Dial("tcp", "127.0.0.1:9000")
			require.NoError(t, err)
			nstest.Reset(conn)
		}
		for name, c := range map[string]struct {
			d    safedial.Dialer // LocalAddr is TCP's
			port int
			want bool
		}{
			"outside of the range":        {safedial.Dialer{}, 9000, false},
			"inside":                      {safedial.Dialer{}, 40010, true},
			"inside, of the other parity": {safedial.Dialer{}, 40011, true},
			"LocalPorts":                  {safedial.Dialer{LocalPorts: ports(40050, 40060)}, 9000, true},
			"AvoidPorts":                  {safedial.Dialer{AvoidPorts: safedial.Ports(40050)}, 9000, true},
			"LocalAddr IP:0":              {safedial.Dialer{LocalAddr: tcp("127.0.0.1", 0)}, 9000, false},
			"LocalAddr IP:0, inside":      {safedial.Dialer{LocalAddr: tcp("127.0.0.1", 0)}, 40010, true},
		} {
			for kind, dial := range dialsOf(&c.d) {
				for _, network := range []string{"tcp", "udp"} {
					if network == "udp" && c.d.LocalAddr != nil {
						continue
					}
					conn, err := dial(network, fmt.Sprintf("127.0.0.1:%d", c.port))
					require.NoError(t, err, name)
					value := optionOf(t, conn, unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE)
					want := c.want
					if network == "udp" && kind == "Dialer" {
						want = name == "LocalPorts" || name == "AvoidPorts" // else the dial looks at what net returns
					}
					assert.Equal(t, want, value != 0, "%s, %s, %s: %#x", network, name, kind, value)
					nstest.Reset(conn)
				}
			}
		}
	})
}

// TestOtherProgramsKeepTheirPorts has programs choose a free port, by listening on port 0
// and closing, and start a server there while 2,000 connections are dialed to a port
// outside of the local port range.
func TestOtherProgramsKeepTheirPorts(t *testing.T) {
	nstest.Long(t)
	isolated(t, func(t *testing.T) {
		const servers, connections, rounds = 300, 2000, 2
		nstest.RaiseDescriptorLimit(t, 2*connections+servers+500)
		listen := nstest.LongBacklog(t, "127.0.0.1:9000", connections)
		for name, dial := range map[string]dialFunc{
			"net.Dialer": net.Dial, "Dialer": safedial.Dial, "NetDialer": new(safedial.Dialer).NetDialer().Dial,
		} {
			failed := 0
			for range rounds {
				failed += blockedServers(t, dial, listen, servers, connections)
			}
			t.Logf("beside %s %d of %d servers cannot start", name, failed, rounds*servers)
			assert.Zero(t, failed, name)
		}
	})
}

// blockedServers returns how many servers cannot start.
func blockedServers(t *testing.T, dial dialFunc, listen func() string, servers, connections int) (failed int) {
	t.Helper()
	chosen := map[string]bool{}
	for len(chosen) < servers {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		chosen[l.Addr().String()] = true
		l.Close()
	}
	address := listen()
	for range connections {
		conn, err := dial("tcp", address)
		require.NoError(t, err)
		defer nstest.Reset(conn)
	}
	for address := range chosen {
		l, err := net.Listen("tcp", address)
		if err != nil {
			failed++
			continue
		}
		defer l.Close()
	}
	return failed
}
