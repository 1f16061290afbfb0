package proof

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/netns"
	"github.com/safedial/safedial/internal/nstest"
)

// pods are the local port ranges of two network namespaces. Of each, 100 ports or more
// are allowed by every limit of podLimits.
var pods = []safedial.PortRange{{Low: 20000, High: 20999}, {Low: 50000, High: 50999}}

var podLimits = []struct {
	name   string
	dialer safedial.Dialer
}{
	{"AvoidPorts", avoiding(ports(20000, 20899), ports(50000, 50899))},
	{"AvoidPorts one by one", avoiding(append(everySecond(20000, 20999), everySecond(50000, 50999)...)...)},
	{"LocalPorts", safedial.Dialer{LocalPorts: ports(20900, 50099)}},
	{"both", safedial.Dialer{
		LocalPorts: ports(20500, 50499),
		AvoidPorts: []safedial.PortRange{ports(20600, 50399)},
	}},
}

// TestLimitsAcrossNamespaces dials in two network namespaces in turn, on one thread. What
// has been read in one of them must not decide in the other.
func TestLimitsAcrossNamespaces(t *testing.T) {
	isolated(t, func(t *testing.T) {
		enter := inNamespaces(t, pods)
		dialWithLimits(t, nil, func(i int) { enter(i % len(pods)) })
	})
}

// TestLimitsWhereControlChangesNamespace has a hook move the thread to the other
// namespace, as a program does that needs the thread back at home. The socket stays where
// it was made.
func TestLimitsWhereControlChangesNamespace(t *testing.T) {
	isolated(t, func(t *testing.T) {
		enter := inNamespaces(t, pods)
		other := 0
		leave := func(string, string, syscall.RawConn) error {
			enter(other)
			return nil
		}
		dialWithLimits(t, leave, func(i int) {
			other = i % len(pods)
			enter(1 - other)
		})
	})
}

// TestLimitsAfterRangeChanged changes the local port range before each dial.
func TestLimitsAfterRangeChanged(t *testing.T) {
	isolated(t, func(t *testing.T) {
		requirePortRange(t, "LocalPorts and AvoidPorts hold")
		nstest.Echo(t, "127.0.0.1:9000")
		dialWithLimits(t, nil, func(i int) {
			r := pods[i%len(pods)]
			nstest.WriteLocalPorts(t, r.Low, r.High)
		})
	})
}

// dialWithLimits dials 127.0.0.1:9000 with every limit of podLimits, and calls before
// ahead of each dial. No dial may fail, because every port is free. UDP of a NetDialer may
// fail, because nothing can try again there, but must not ignore the limits.
func dialWithLimits(t *testing.T, control controlFunc, before func(i int)) {
	t.Helper()
	for _, limits := range podLimits {
		for _, maxRetries := range []int{0, -1} {
			d := limits.dialer
			d.Control, d.MaxRetries = control, maxRetries
			for _, network := range []string{"tcp", "udp"} {
				for kind, dial := range dialsOf(&d) {
					var count tally
					for i := range 100 {
						before(i)
						count.add(&d)(dial(network, "127.0.0.1:9000"))
					}
					if kind == "NetDialer" && network == "udp" {
						count.failed = 0
					}
					count.assertZero(t, fmt.Sprintf("%s: %s of %s, MaxRetries %d", limits.name, network, kind, maxRetries))
				}
			}
		}
	}
}

// inNamespaces makes a network namespace for each local port range, with a server on
// 127.0.0.1:9000. The function that it returns moves the test's thread into one of them.
func inNamespaces(t *testing.T, ranges []safedial.PortRange) (enter func(i int)) {
	t.Helper()
	requirePortRange(t, "LocalPorts and AvoidPorts hold")
	runtime.LockOSThread()
	home := openNamespace(t)
	t.Cleanup(func() {
		setNamespace(t, home)
		runtime.UnlockOSThread()
	})
	var namespaces []*os.File
	for _, r := range ranges {
		require.NoError(t, unix.Unshare(unix.CLONE_NEWNET))
		require.NoError(t, netns.RaiseLoopback())
		nstest.WriteLocalPorts(t, r.Low, r.High)
		nstest.Echo(t, "127.0.0.1:9000")
		namespaces = append(namespaces, openNamespace(t))
	}
	return func(i int) { setNamespace(t, namespaces[i]) }
}

// openNamespace opens the network namespace of the thread.
func openNamespace(t *testing.T) *os.File {
	t.Helper()
	file, err := os.Open("/proc/thread-self/ns/net")
	require.NoError(t, err)
	t.Cleanup(func() { file.Close() })
	return file
}

func setNamespace(t *testing.T, file *os.File) {
	t.Helper()
	require.NoError(t, unix.Setns(int(file.Fd()), unix.CLONE_NEWNET))
}

// avoiding returns a Dialer that avoids the ports.
func avoiding(avoid ...safedial.PortRange) safedial.Dialer { return safedial.Dialer{AvoidPorts: avoid} }

// everySecond returns every second port from low to high, each as a range of its own.
func everySecond(low, high uint16) (list []safedial.PortRange) {
	for port := int(low); port <= int(high); port += 2 {
		list = append(list, ports(uint16(port), uint16(port)))
	}
	return list
}

// A tally counts the dials that fail, and those from a port that is not allowed.
type tally struct {
	dials, failed, forbidden int
	failure                  error
}

// add counts a dial of d, and closes its connection.
func (y *tally) add(d *safedial.Dialer) func(net.Conn, error) {
	return func(conn net.Conn, err error) {
		y.dials++
		if err != nil {
			y.failed, y.failure = y.failed+1, err
			return
		}
		if !allows(d, portOf(conn)) {
			y.forbidden++
		}
		nstest.Reset(conn)
	}
}

func (y *tally) assertZero(t *testing.T, what string) {
	t.Helper()
	assert.Zero(t, y.failed, "%s: so many of %d dials fail: %.300v", what, y.dials, y.failure)
	assert.Zero(t, y.forbidden, "%s: so many of %d are from a port that is not allowed", what, y.dials)
}

// allows reports whether d lets the system choose port.
func allows(d *safedial.Dialer, port uint16) bool {
	has := func(r safedial.PortRange) bool { return r.Contains(port) }
	return (d.LocalPorts == safedial.PortRange{} || has(d.LocalPorts)) && !slices.ContainsFunc(d.AvoidPorts, has)
}
