//go:build !safedial_portable

package proof

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// avoided are three of the eight ports of the tests' local port range.
var avoided = []uint16{40006, 40001, 40004}

// TestAvoidPorts dials 20,000 times in every way from a range of eight ports, to a port
// outside of it and to one of its own, without three of them.
func TestAvoidPorts(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.RequirePortRange(t)
		nstest.SetLocalPorts(t, 40000, 40007)
		d := &safedial.Dialer{AvoidPorts: avoided}
		for _, address := range []string{"127.0.0.1:9000", "127.0.0.1:40003"} {
			discard(t, address)
			free := map[string][]uint16{"tcp": {40000, 40002, 40005, 40007}, "udp": {40000, 40002, 40005, 40007}}
			if address == "127.0.0.1:9000" {
				free["udp"] = append(free["udp"], 40003)
				if !takesEvenPortsFirst(t, address) {
					free["tcp"] = append(free["tcp"], 40003)
				}
			}
			for _, network := range []string{"tcp", "udp"} {
				for kind, dial := range map[string]dialFunc{"Dialer": d.Dial, "NetDialer": d.NetDialer().Dial} {
					chosen := portsOf(t, dial, network, address, 10000)
					assert.ElementsMatch(t, free[network], keys(chosen), "%s %s %s", kind, network, address)
					t.Logf("%s %s %s: 0 of 10000 from %v: %v", kind, network, address, avoided, chosen)
				}
			}
		}
	})
}

// takesEvenPortsFirst reports whether connect(2) takes 40003 of 40002-40003 only if it
// cannot have 40002, as Linux does before 6.8.
func takesEvenPortsFirst(t *testing.T, address string) bool {
	t.Helper()
	limited := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return nstest.OnSocket(c, func(fd int) error { return nstest.LimitPorts(fd, 40002, 40003) })
	}}
	chosen := portsOf(t, limited.Dial, "tcp", address, 40)
	return chosen[40003] == 0
}

// TestNotAvoidPorts dials without AvoidPorts: the kernel chooses ports that
// TestAvoidPorts avoids.
func TestNotAvoidPorts(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, 40000, 40007)
		discard(t, "127.0.0.1:9000")
		for _, network := range []string{"tcp", "udp"} {
			chosen := portsOf(t, new(safedial.Dialer).Dial, network, "127.0.0.1:9000", 2000)
			assert.Contains(t, chosen, uint16(40004), network)
			assert.Contains(t, chosen, uint16(40006), network)
		}
	})
}

// TestAvoidPortsKeepsServer restarts a server while connections of its own program have
// every other port.
func TestAvoidPortsKeepsServer(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.RequirePortRange(t)
		nstest.SetLocalPorts(t, 40000, 40007)
		discard(t, "127.0.0.1:9000")
		for name, c := range map[string]struct {
			d      safedial.Dialer
			starts bool
		}{
			"with":    {safedial.Dialer{AvoidPorts: []uint16{40003}, MaxRetries: -1}, true},
			"without": {safedial.Dialer{MaxRetries: -1}, false},
		} {
			var open []net.Conn
			for {
				conn, err := c.d.Dial("tcp", "127.0.0.1:9000")
				if err != nil {
					require.ErrorIs(t, err, unix.EADDRNOTAVAIL)
					break
				}
				open = append(open, conn)
			}
			l, err := net.Listen("tcp", "127.0.0.1:40003")
			assert.Equal(t, c.starts, err == nil, "%s: %v", name, err)
			if err == nil {
				l.Close()
			}
			for _, conn := range open {
				nstest.Reset(conn)
			}
		}
	})
}

// TestAvoidPortsAfterRangeChanges dials while the local port range that safedial has read
// is no longer the host's, so that the kernel ignores what it is asked: a connection from
// an avoided port must not be returned.
func TestAvoidPortsAfterRangeChanges(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.RequirePortRange(t)
		discard(t, "127.0.0.1:9000")
		d := &safedial.Dialer{AvoidPorts: []uint16{40000, 40001, 40002, 40003, 40004, 40005, 40006, 50003}}
		for range 5 {
			for _, network := range []string{"tcp", "udp"} {
				nstest.WriteLocalPorts(t, 50000, 50007)
				nstest.AwaitPortsRead()
				conn, err := d.Dial(network, "127.0.0.1:9000")
				require.NoError(t, err)
				nstest.Reset(conn)
				nstest.WriteLocalPorts(t, 40000, 40007)
				if conn, err = d.Dial(network, "127.0.0.1:9000"); err != nil {
					assert.ErrorContains(t, err, "avoid ports", network)
					continue
				}
				assert.EqualValues(t, 40007, nstest.AddrPort(conn.LocalAddr()).Port(), network)
				nstest.Reset(conn)
			}
		}
	})
}

// TestAvoidPortsNoneLeft: if all ports are avoided, the error says so; if the others
// are taken, it is that of a host without free ports.
func TestAvoidPortsNoneLeft(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.RequirePortRange(t)
		nstest.SetLocalPorts(t, 40000, 40007)
		discard(t, "127.0.0.1:9000")
		all := &safedial.Dialer{AvoidPorts: []uint16{40007, 40000, 40001, 40002, 40003, 40004, 40005, 40006}}
		taken := &safedial.Dialer{AvoidPorts: avoided, MaxRetries: -1}
		for _, network := range []string{"tcp", "udp"} {
			for kind, dial := range map[string]dialFunc{"Dialer": all.Dial, "NetDialer": all.NetDialer().Dial} {
				_, err := dial(network, "127.0.0.1:9000")
				assert.EqualError(t, err, "dial "+network+" 127.0.0.1:9000: avoid ports [40000 40001 40002 40003 40004 40005 40006 40007]: no port other than [9000 40000 40001 40002 40003 40004 40005 40006 40007] in the range 40000-40007", kind)
				assert.NotErrorIs(t, err, errors.ErrUnsupported)
			}
			for range 8 - len(avoided) {
				conn, err := taken.Dial(network, "127.0.0.1:9000")
				require.NoError(t, err)
				defer nstest.Reset(conn)
			}
			for kind, dial := range map[string]dialFunc{"Dialer": taken.Dial, "NetDialer": taken.NetDialer().Dial} {
				_, err := dial(network, "127.0.0.1:9000")
				want := unix.EADDRNOTAVAIL
				if network == "udp" {
					want = unix.EAGAIN
				}
				assert.ErrorIs(t, err, want, "%s %s", kind, network)
				t.Logf("%s: %v", kind, err)
			}
		}
	})
}

// TestAvoidPortsUnsupported dials on a kernel before 6.3.
func TestAvoidPortsUnsupported(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.WithoutOptions(t, unix.IP_LOCAL_PORT_RANGE)
		discard(t, "127.0.0.1:9000")
		d := &safedial.Dialer{AvoidPorts: avoided}
		for _, network := range []string{"tcp", "udp"} {
			for kind, dial := range map[string]dialFunc{"Dialer": d.Dial, "NetDialer": d.NetDialer().Dial} {
				_, err := dial(network, "127.0.0.1:9000")
				assert.ErrorIs(t, err, errors.ErrUnsupported, kind)
				assert.ErrorContains(t, err, "avoid ports [40001 40004 40006]: unsupported operation", kind)
			}
		}
	})
}

// TestAvoidPortsUnsetAllocations: no AvoidPorts cost a dial no allocation.
func TestAvoidPortsUnsetAllocations(t *testing.T) {
	if nstest.RaceDetector {
		t.Skip("the race detector allocates")
	}
	nstest.Run(t, func(t *testing.T) {
		nstest.RequirePortRange(t)
		count := func(d safedial.Dialer) float64 {
			n, _ := allocations(t, budget{name: "refused", network: "tcp", address: "127.0.0.1:9000", refused: true}, &d)
			return n
		}
		unset := count(safedial.Dialer{})
		assert.InDelta(t, unset, count(safedial.Dialer{AvoidPorts: []uint16{}}), 0)
		assert.Less(t, unset, count(safedial.Dialer{AvoidPorts: avoided}), "what AvoidPorts allocate is seen")
		t.Logf("%v allocations", unset)
	})
}

type dialFunc func(network, address string) (net.Conn, error)

// portsOf dials n times and counts the local ports.
func portsOf(t *testing.T, dial dialFunc, network, address string, n int) map[uint16]int {
	t.Helper()
	chosen := make(map[uint16]int)
	for range n {
		conn, err := dial(network, address)
		require.NoError(t, err)
		chosen[nstest.AddrPort(conn.LocalAddr()).Port()]++
		nstest.Reset(conn)
	}
	return chosen
}

func keys(m map[uint16]int) []uint16 {
	var list []uint16
	for key := range m {
		list = append(list, key)
	}
	return list
}

// discard accepts TCP connections on address and resets them when the test ends. UDP
// needs no peer.
func discard(t *testing.T, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	accepting := make(chan struct{})
	var conns []net.Conn
	go func() {
		defer close(accepting)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
			if len(conns) > 100 {
				nstest.Reset(conns[0])
				conns = conns[1:]
			}
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-accepting
		for _, conn := range conns {
			nstest.Reset(conn)
		}
	})
}
