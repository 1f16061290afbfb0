package safedial

import (
	"math/big"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

func TestParseErrors(t *testing.T) {
	_, err := parseLocalPortRange("1 65536")
	assert.ErrorIs(t, err, strconv.ErrRange)
	_, err = parseLocalPortRange("a 2")
	assert.ErrorIs(t, err, strconv.ErrSyntax)
}

// TestSysctls reads what the test has written into a namespace of its own.
func TestSysctls(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		setLocalPorts(t, PortRange{40000, 40010})
		nstest.Sysctl(t, reservedPortsFile, "8080,40003-40004")

		got, err := LocalPortRange()
		require.NoError(t, err)
		assert.Equal(t, PortRange{40000, 40010}, got)

		reserved, err := ReservedPorts()
		require.NoError(t, err)
		assert.Equal(t, []PortRange{{8080, 8080}, {40003, 40004}}, reserved)

		for port, want := range map[uint16]bool{
			0: false, 80: false, 8080: false, 39999: false, 40000: true, 40002: true, 40003: false,
			40004: false, 40005: true, 40010: true, 40011: false, 65535: false,
		} {
			got, err := IsEphemeral(port)
			require.NoError(t, err)
			assert.Equal(t, want, got, "port %d", port)
		}

		nstest.Sysctl(t, reservedPortsFile, "\n")
		reserved, err = ReservedPorts()
		require.NoError(t, err)
		assert.Equal(t, []PortRange{}, reserved)
	})
}

// TestLocalPortRangeOfThread has one thread in another network namespace.
func TestLocalPortRangeOfThread(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		setLocalPorts(t, PortRange{40000, 40010})
		inner := make(chan PortRange)
		go func() {
			defer close(inner)
			runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
			if !assert.NoError(t, unix.Unshare(unix.CLONE_NEWNET)) {
				return
			}
			if assert.NoError(t, os.WriteFile(localPortRangeFile, []byte("50000 50001"), 0)) {
				r, err := LocalPortRange()
				assert.NoError(t, err)
				inner <- r
			}
		}()
		assert.Equal(t, PortRange{50000, 50001}, <-inner)
		outer, err := LocalPortRange()
		require.NoError(t, err)
		assert.Equal(t, PortRange{40000, 40010}, outer)
	})
}

// TestRecentPorts: the state of the ports is read anew after a tenth of a
// second, and not before.
func TestRecentPorts(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		first, second := PortRange{40000, 40010}, PortRange{50000, 50010}
		setLocalPorts(t, first)
		nstest.Sysctl(t, reservedPortsFile, "40003")
		require.Equal(t, first, recentPorts().local)
		assert.Equal(t, []PortRange{{40003, 40003}}, recentPorts().reserved)
		nstest.WriteLocalPorts(t, second.Low, second.High)
		if time.Since(recent.Load().read) < recentFor/2 {
			assert.Equal(t, first, recentPorts().local, "it reads each time")
		}
		assert.Eventually(
			t,
			func() bool { return recentPorts().local == second },
			10*time.Second,
			time.Millisecond,
			"it never reads again",
		)
		assert.Equal(t, second, readPorts().local)
	})
}

// slowPort reads a port digit by digit.
func slowPort(text string) (uint16, bool) {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	n, ok := new(big.Int).SetString(text, 10)
	if !ok || n.Cmp(big.NewInt(65535)) > 0 {
		return 0, false
	}
	return uint16(n.Uint64()), true
}

func FuzzLocalPortRange(f *testing.F) {
	for _, seed := range []string{
		"32768\t60999\n", "40000\t40000\n", "1 65535", "", "\n", "1", "1 2 3", "2 1", "1 65536", "-1 2",
		"1,2", "a b", "+1 2", "1_0 20", "0x1 2",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var want PortRange
		fields := strings.Fields(text)
		ok := len(fields) == 2
		if ok {
			low, lowOK := slowPort(fields[0])
			high, highOK := slowPort(fields[1])
			if ok = lowOK && highOK && low <= high; ok {
				want = PortRange{low, high}
			}
		}
		got, err := parseLocalPortRange(text)
		assert.Equal(t, want, got, "%q", text)
		if ok {
			assert.NoError(t, err, "%q", text)
		} else {
			assert.ErrorContains(t, err, "local port range "+strconv.Quote(text))
		}
	})
}

func FuzzReservedPorts(f *testing.F) {
	for _, seed := range []string{
		"", "\n", "8080\n", "8080,9148-9150\n", "1-2,4,6-9,65535-65535\n", "1,", ",", "1-", "-1", "2-1",
		"1-2-3", " 1", "1 ,2", "65536", "a", "0-65535",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		want, ok := slowReservedPorts(text)
		got, err := parseReservedPorts(text)
		assert.Equal(t, want, got, "%q", text)
		if ok {
			assert.NoError(t, err, "%q", text)
		} else {
			assert.ErrorContains(t, err, "reserved ports: ")
		}
	})
}

func slowReservedPorts(text string) ([]PortRange, bool) {
	list := []PortRange{}
	if strings.TrimSpace(text) == "" {
		return list, true
	}
	for _, item := range strings.Split(strings.TrimSpace(text), ",") {
		ends := strings.Split(item, "-")
		if len(ends) > 2 {
			return nil, false
		}
		low, lowOK := slowPort(ends[0])
		high, highOK := slowPort(ends[len(ends)-1])
		if !lowOK || !highOK || low > high {
			return nil, false
		}
		list = append(list, PortRange{low, high})
	}
	return list, true
}

// setLocalPorts sets the namespace's local port range, and has the library read it.
func setLocalPorts(t *testing.T, r PortRange) {
	t.Helper()
	nstest.WriteLocalPorts(t, r.Low, r.High)
	recent.Store(nil)
}
