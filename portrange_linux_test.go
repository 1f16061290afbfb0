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

// TestSystemPortsAreCached: the state of the ports is read anew after a tenth of a
// second, and not before.
func TestSystemPortsAreCached(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		first, second := PortRange{40000, 40010}, PortRange{50000, 50010}
		setLocalPorts(t, first)
		nstest.Sysctl(t, reservedPortsFile, "40003")
		require.Equal(t, first, systemPorts().local)
		assert.Equal(t, []PortRange{{40003, 40003}}, systemPorts().reserved)
		nstest.SetLocalPorts(t, second.Low, second.High)
		if time.Since(cachedPorts.Load().read) < cachedPortsFor/2 {
			assert.Equal(t, first, systemPorts().local, "it reads each time")
		}
		assert.Eventually(t, func() bool { return systemPorts().local == second }, 10*time.Second, time.Millisecond, "it never reads again")
		assert.Equal(t, second, readSystemPorts().local)
	})
}

func TestPortState(t *testing.T) {
	known := &portState{local: PortRange{40001, 40010}, known: true, reserved: []PortRange{{40002, 40003}, {40010, 40020}}}
	assert.True(t, known.mayChoose(40001))
	assert.False(t, known.mayChoose(40000))
	assert.True(t, known.otherParity(40004))
	assert.False(t, known.otherParity(40005))
	assert.False(t, known.otherParity(40012), "outside of the range")
	assert.Equal(t, 7, known.usable(everyPort))
	assert.Equal(t, 0, known.usable(PortRange{40010, 40100}))
	assert.Equal(t, 1, known.usable(PortRange{40000, 40003}))

	unknown := &portState{local: everyPort}
	assert.True(t, unknown.mayChoose(32768))
	assert.False(t, unknown.mayChoose(32767), "the kernel's default begins at 32768")
	assert.False(t, unknown.otherParity(40000), "no parity")
}

// TestCrowded: a destination is crowded for ten seconds; then one dial asks again.
func TestCrowded(t *testing.T) {
	var table crowdedTable
	const hash, other = 0x1234_5678_0000_0001, 0x8765_4321_0000_0001
	assert.False(t, table.has(hash))
	table.set(hash, true)
	assert.True(t, table.has(hash))
	assert.False(t, table.has(other), "of the same entry")
	table.set(other, false)
	assert.True(t, table.has(hash), "cleared by another")
	table.set(hash, false)
	assert.False(t, table.has(hash))

	past := time.Since(processStart).Milliseconds() - 1
	table[hash%64].Store(hash>>32<<32 | uint64(uint32(past)))
	assert.False(t, table.has(hash), "the one that asks again")
	assert.True(t, table.has(hash), "the others")
}
