package safedial

import (
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

func TestParseLocalPortRange(t *testing.T) {
	for text, want := range map[string]PortRange{
		"32768\t60999\n": {32768, 60999},
		"1 65535":        {1, 65535},
		"40000\t40000\n": {40000, 40000},
	} {
		got, err := parseLocalPortRange(text)
		require.NoError(t, err, "%q", text)
		assert.Equal(t, want, got, "%q", text)
	}
	for _, text := range []string{"", "\n", "1", "1 2 3", "a b", "1 65536", "-1 2", "2 1", "1,2", "0x1 2"} {
		got, err := parseLocalPortRange(text)
		assert.ErrorContains(t, err, "local port range "+strconv.Quote(text))
		assert.Zero(t, got, "%q", text)
	}
	_, err := parseLocalPortRange("1 65536")
	assert.ErrorIs(t, err, strconv.ErrRange)
	_, err = parseLocalPortRange("a 2")
	assert.ErrorIs(t, err, strconv.ErrSyntax)
}

func TestParseReservedPorts(t *testing.T) {
	for text, want := range map[string][]PortRange{
		"":                        {},
		"\n":                      {},
		"8080\n":                  {{8080, 8080}},
		"8080,9148-9150\n":        {{8080, 8080}, {9148, 9150}},
		"1-65535":                 {{1, 65535}},
		"0,2-3,5,7-9,65535-65535": {{0, 0}, {2, 3}, {5, 5}, {7, 9}, {65535, 65535}},
	} {
		got, err := parseReservedPorts(text)
		require.NoError(t, err, "%q", text)
		assert.Equal(t, want, got, "%q", text)
	}
	for _, text := range []string{",", "1,", "1-", "-1", "1-2-3", "2-1", "1 2", "65536", "a"} {
		got, err := parseReservedPorts(text)
		assert.ErrorContains(t, err, "reserved ports ")
		assert.Nil(t, got, "%q", text)
	}
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

		for port, want := range map[uint16]bool{0: false, 80: false, 8080: false, 39999: false, 40000: true, 40002: true, 40003: false, 40004: false, 40005: true, 40010: true, 40011: false, 65535: false} {
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

func TestPortRangeCache(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		var cache portRangeCache
		first, second := PortRange{40000, 40010}, PortRange{50000, 50010}
		setLocalPorts(t, first)
		require.Equal(t, first, cache.get())
		setLocalPorts(t, second)
		assert.Eventually(t, func() bool { return cache.get() == second }, 10*time.Second, 10*time.Millisecond, "it never reads again")

		setLocalPorts(t, first)
		cache.forget()
		assert.Equal(t, first, cache.get(), "after forget")
	})
}

// TestPortRangeCacheIsUsed has the remembered range, which is not the real one.
func TestPortRangeCacheIsUsed(t *testing.T) {
	remembered := PortRange{1, 2}
	require.Eventually(t, func() bool {
		var cache portRangeCache
		now := time.Now().Unix()
		cache.word.Store(uint64(uint32(now))<<32 | uint64(remembered.High)<<16 | uint64(remembered.Low))
		got := cache.get()
		return time.Now().Unix() == now && got == remembered
	}, 10*time.Second, time.Millisecond)
}
