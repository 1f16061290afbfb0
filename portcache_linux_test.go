package safedial

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

// TestSplitAround goes through every port to avoid, with and without a second one,
// system range and allowed range of a small world at the bottom, the middle and the
// top of the port numbers.
func TestSplitAround(t *testing.T) {
	cases := 0
	for _, base := range []int{1, 40000, 65535 - 5} {
		ports := PortRange{uint16(base), uint16(base + 5)}
		for _, system := range subranges(ports) {
			for _, allowed := range append(subranges(ports), everyPort) {
				for port := base - 1; port <= min(base+6, 65535); port++ {
					for other := port; other <= min(port+3, 65535); other++ {
						checkSplit(t, []uint16{uint16(port), uint16(other)}, system, allowed)
						cases++
					}
				}
			}
		}
	}
	t.Logf("%d cases", cases)
}

func subranges(r PortRange) []PortRange {
	var all []PortRange
	for low := int(r.Low); low <= int(r.High); low++ {
		for high := low; high <= int(r.High); high++ {
			all = append(all, PortRange{uint16(low), uint16(high)})
		}
	}
	return all
}

func checkSplit(t *testing.T, avoid []uint16, system, allowed PortRange) {
	t.Helper()
	covered := map[uint16]int{}
	state := &portState{local: system, known: true}
	for _, part := range state.splitAround(nil, allowed, avoid) {
		effective := clamp(part, system)
		for p := int(effective.Low); p <= int(effective.High); p++ {
			covered[uint16(p)]++
		}
	}
	for p := int(system.Low); p <= int(system.High); p++ {
		want := 0
		if allowed.Contains(uint16(p)) && !slices.Contains(avoid, uint16(p)) {
			want = 1
		}
		require.Equal(t, want, covered[uint16(p)], "port %d, around %d, system %v, allowed %v", p, avoid, system, allowed)
	}
}

// clamp is what the kernel makes of a window: it ignores a bound outside system.
func clamp(window, system PortRange) PortRange {
	effective := system
	if system.Contains(window.Low) {
		effective.Low = window.Low
	}
	if system.Contains(window.High) {
		effective.High = window.High
	}
	return effective
}

// TestPickIsWeighed: each port other than the destination's is as likely, and a
// reserved one does not count.
func TestPickIsWeighed(t *testing.T) {
	const tries = 20000
	state := &portState{local: PortRange{1000, 1999}, known: true, reserved: []PortRange{{1500, 1899}}}
	ranges := state.splitAround(nil, everyPort, []uint16{1100})
	require.Equal(t, []PortRange{{1, 1099}, {1101, 65535}}, ranges)
	below := 0
	for range tries {
		if state.pick(ranges, rand.Uint32()) == 0 {
			below++
		}
	}
	assert.InDelta(t, tries*100/599, below, tries/50)
	assert.Equal(t, 0, state.pick(ranges, 0))
	assert.Equal(t, 1, state.pick(ranges, math.MaxUint32))
}

// TestKernelClamps holds clamp to the kernel: it asks for windows that reach over
// the ends of the system's range, and lies beside it.
func TestKernelClamps(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.RequirePortRange(t)
		system := PortRange{40000, 40003}
		setLocalPorts(t, system)
		serve(t, "tcp", "127.0.0.1:9000")
		for low := uint16(39998); low <= 40005; low++ {
			for high := low; high <= 40005; high++ {
				window := PortRange{low, high}
				want := clamp(window, system)
				if want.Len() == 0 {
					continue
				}
				assert.Equal(t, want, connectAll(t, window), "%v of %v", window, system)
			}
		}
	})
}

// connectAll returns the ports that the kernel picks within window until none is
// left. It connects, because bind(2) leaves the last port of an odd number out.
func connectAll(t *testing.T, window PortRange) PortRange {
	t.Helper()
	var got PortRange
	for {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		require.NoError(t, err)
		defer unix.Close(fd)
		setLinger(uintptr(fd), lingerReset)
		require.NoError(t, setLocalPortRange(fd, window))
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
