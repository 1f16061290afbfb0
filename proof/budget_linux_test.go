package proof

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/safedial/safedial"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

// A budget is what a dial may cost. A test that fails because net costs less, or
// a change that is worth more, is a reason to write other numbers here.
type budget struct {
	name    string
	network string
	address string
	local   net.Addr
	refused bool
	noPort  bool // every local port is connected to the address
	retries int  // MaxRetries

	systemCalls map[string]int // those that do not depend on the scheduler
	allocs      float64
	overNet     float64 // allocations beyond net.Dialer's
	bytesByNet  float64 // bytes by net.Dialer's
}

var budgets = []budget{
	// These come first, because the others leave ports in TIME_WAIT: a server cannot bind
	// such a port, but a dial to another destination can have it.
	//
	// net.Dialer makes three sockets, each with one connect. If the destination's port is in
	// the local port range, an attempt tries the ports on its two sides.
	{
		name: "no port left", network: "tcp", address: "127.0.0.1:9000", noPort: true,
		systemCalls: map[string]int{"socket": 1, "connect": 3, "setsockopt": 3, "close": 1},
	},
	{
		name: "no port left, MaxRetries -1", network: "tcp", address: "127.0.0.1:9000", noPort: true, retries: -1,
		systemCalls: map[string]int{"socket": 1, "connect": 1, "setsockopt": 1, "close": 1},
	},
	{
		name: "no port left, inside, two ranges", network: "tcp", address: "127.0.0.1:40000", noPort: true,
		systemCalls: map[string]int{"socket": 1, "connect": 6, "setsockopt": 6, "close": 1},
	},
	{
		name: "no port left, inside, MaxRetries -1", network: "tcp", address: "127.0.0.1:40000", noPort: true, retries: -1,
		systemCalls: map[string]int{"socket": 1, "connect": 2, "setsockopt": 2, "close": 1},
	},
	{
		name:    "accepted, IPv4",
		network: "tcp",
		address: "127.0.0.1:9000",
		systemCalls: map[string]int{
			"socket":      1,
			"connect":     2,
			"getsockname": 2,
			"getpeername": 2,
			"setsockopt":  5,
			"epoll_ctl":   2,
			"close":       1,
		},
		allocs:     20,
		overNet:    5,
		bytesByNet: 1.3,
	},
	{
		name:    "accepted, IPv6, inside the range",
		network: "tcp",
		address: "[::1]:40000",
		systemCalls: map[string]int{
			"socket":      1,
			"connect":     2,
			"getsockname": 2,
			"getpeername": 2,
			"setsockopt":  7,
			"epoll_ctl":   2,
			"close":       1,
		},
		allocs:     19,
		overNet:    5,
		bytesByNet: 1.3,
	},
	{
		name: "refused", network: "tcp", address: "127.0.0.1:9", refused: true,
		systemCalls: map[string]int{"socket": 1, "connect": 2, "getsockname": 1, "getpeername": 1, "close": 1},
		allocs:      16, overNet: 4, bytesByNet: 1.3,
	},
	{
		name:    "LocalAddr",
		network: "tcp",
		address: "127.0.0.1:9000",
		local:   tcp("127.0.0.1", 0),
		systemCalls: map[string]int{
			"socket":      1,
			"bind":        1,
			"connect":     2,
			"getsockname": 2,
			"getpeername": 2,
			"setsockopt":  6,
			"epoll_ctl":   2,
			"close":       1,
		},
		allocs:     20,
		overNet:    4,
		bytesByNet: 1.3,
	},
	{
		name:    "UDP",
		network: "udp",
		address: "127.0.0.1:9000",
		systemCalls: map[string]int{
			"socket":      1,
			"connect":     1,
			"getsockname": 1,
			"getpeername": 1,
			"setsockopt":  1,
			"epoll_ctl":   2,
			"close":       1,
		},
		allocs:     14,
		overNet:    0,
		bytesByNet: 1,
	},
}

func (b budget) dial(t testing.TB, d dialer) {
	conn, err := d.Dial(b.network, b.address)
	if (err == nil) == (b.refused || b.noPort) {
		t.Fatalf("%s: %v", b.name, err)
	}
	if err == nil {
		conn.Close()
	}
}

// listenForBudgets listens for TCP where the budgets dial. The kernel holds what
// nobody accepts, so that the dials alone are measured.
func listenForBudgets(t *testing.T) {
	t.Helper()
	for _, address := range []string{"127.0.0.1:9000", "[::1]:40000", "127.0.0.1:40000"} {
		l, err := net.Listen("tcp", address)
		require.NoError(t, err)
		t.Cleanup(func() { l.Close() })
		// net has 128 where it cannot read somaxconn, but each budget dials more often.
		require.NoError(t, nstest.OnSocket(nstest.RawConn(t, l), func(fd int) error { return unix.Listen(fd, 4096) }))
	}
}

const countedEnv = "SAFEDIAL_COUNTED_DIALS" // in the process that strace(1) counts: "budget dials"

// TestSystemCalls counts the system calls of a dial.
func TestSystemCalls(t *testing.T) {
	if counted := os.Getenv(countedEnv); counted != "" {
		var i, dials int
		_, err := fmt.Sscan(counted, &i, &dials)
		require.NoError(t, err)
		for range dials {
			budgets[i].dial(t, &safedial.Dialer{LocalAddr: budgets[i].local, MaxRetries: budgets[i].retries})
		}
		return
	}
	strace := nstest.Program(t, "strace", "strace")
	nstest.RequireDirectCalls(t)
	isolated(t, func(t *testing.T) {
		requirePortRange(t, "a dial needs one attempt")
		listenForBudgets(t)
		without := countSystemCalls(t, strace, 0, 0)
		for i, b := range budgets {
			const dials = 100
			release := func() {}
			if b.noPort {
				release = takePorts(t, b.address, 39996, 40004)
			}
			with := countSystemCalls(t, strace, i, dials)
			spent := map[string]int{}
			for _, name := range []string{
				"socket", "bind", "connect", "getsockname", "getpeername", "setsockopt", "getsockopt",
				"epoll_ctl", "close",
			} {
				// A few more come from the runtime, whatever is dialed.
				spent[name] = (with[name] - without[name] + dials/4) / dials
				assert.LessOrEqual(t, spent[name], b.systemCalls[name], "%s: %s", b.name, name)
			}
			release()
			assert.NotZero(t, spent["connect"], b.name)
			t.Logf("%s: %v", b.name, spent)
		}
	})
}

// countSystemCalls returns how often a process makes each system call that dials
// by budget i, as strace(1) counts them.
func countSystemCalls(t *testing.T, strace string, i, dials int) map[string]int {
	t.Helper()
	file := filepath.Join(t.TempDir(), "strace")
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), strace, "-f", "-c", "-o", file, self, "-test.run=^TestSystemCalls$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", countedEnv, i, dials))
	output, err := cmd.CombinedOutput()
	if err != nil && strings.Contains(string(output), "not permitted") {
		nstest.Refused(t, fmt.Sprintf("strace may not trace: %s", output))
	}
	require.NoError(t, err, "%s", output)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	calls := map[string]int{}
	for line := range strings.Lines(string(text)) {
		// % time, seconds, usecs/call, calls, errors if any, syscall
		if fields := strings.Fields(line); len(fields) >= 5 {
			if n, err := strconv.Atoi(fields[3]); err == nil {
				calls[fields[len(fields)-1]] = n
			}
		}
	}
	// The slower the machine is, the more dials read the port range anew, and each file adds
	// to these.
	calls["close"] -= calls["openat"]
	calls["epoll_ctl"] -= 2 * calls["openat"]
	return calls
}

// TestAllocations counts the allocations of a dial.
func TestAllocations(t *testing.T) {
	skipPortable(t, "the hook has no budget")
	if nstest.RaceDetector {
		t.Skip("the race detector has pools drop what they hold")
	}
	nstest.Run(t, func(t *testing.T) { // AllocsPerRun must not run beside other tests
		listenForBudgets(t)
		refused := 0.0 // the error of an option that the kernel does not have
		if !nstest.HasPortRange(t, 0) {
			refused = 1
		}
		for _, b := range budgets {
			if b.noPort {
				continue // the errors and their pauses are what matters there
			}
			withNet, netBytes := allocations(t, b, &net.Dialer{LocalAddr: b.local})
			mine, bytes := allocations(t, b, &safedial.Dialer{LocalAddr: b.local})
			t.Logf("%s: net.Dialer %.0f and %.0f bytes, safedial %.0f and %.0f bytes", b.name, withNet, netBytes, mine, bytes)
			assert.LessOrEqual(t, mine, b.allocs+refused, b.name)
			assert.LessOrEqual(t, mine, withNet+b.overNet+refused, b.name)
			assert.LessOrEqual(t, bytes, b.bytesByNet*netBytes, b.name)
		}
	})
}

// allocations returns how many allocations a dial makes, and of how many bytes: the
// medians, because a few dials read the port range anew. The garbage collector, which
// empties pools, does not run meanwhile.
func allocations(t *testing.T, b budget, d dialer) (count, bytes float64) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var counts, sizes []float64
	for range 200 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		b.dial(t, d)
		runtime.ReadMemStats(&after)
		counts = append(counts, float64(after.Mallocs-before.Mallocs))
		sizes = append(sizes, float64(after.TotalAlloc-before.TotalAlloc))
	}
	slices.Sort(counts)
	slices.Sort(sizes)
	return counts[len(counts)/2], sizes[len(sizes)/2]
}
