package safedial

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

// TestWindows goes through every port, system range and allowed range of a small
// world at the bottom, the middle and the top of the port numbers.
func TestWindows(t *testing.T) {
	cases := 0
	for _, base := range []int{1, 40000, 65535 - 5} {
		ports := PortRange{uint16(base), uint16(base + 5)}
		for _, system := range subranges(ports) {
			for _, allowed := range append(subranges(ports), everyPort) {
				for port := base - 1; port <= base+6; port++ {
					if port > 65535 {
						continue
					}
					checkWindows(t, uint16(port), system, allowed)
					cases++
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

func checkWindows(t *testing.T, port uint16, system, allowed PortRange) {
	t.Helper()
	covered := map[uint16]int{}
	around := windows(port, system, allowed)
	for _, window := range around.list() {
		require.False(t, window.Contains(port), "%v holds %d", window, port)
		effective := clamp(window, system)
		require.False(t, effective.Contains(port), "%v, of the system's %v, holds %d", window, system, port)
		for p := int(effective.Low); p <= int(effective.High); p++ {
			covered[uint16(p)]++
		}
	}
	for p := int(system.Low); p <= int(system.High); p++ {
		want := 0
		if allowed.Contains(uint16(p)) && uint16(p) != port {
			want = 1
		}
		require.Equal(t, want, covered[uint16(p)], "port %d, around %d, system %v, allowed %v", p, port, system, allowed)
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

// TestWindowsAreWeighed: each port beside the destination's is as likely.
func TestWindowsAreWeighed(t *testing.T) {
	const tries = 20000
	system := PortRange{1000, 1999}
	below := 0
	for range tries {
		if windows(1100, system, everyPort)[0].High == 1099 {
			below++
		}
	}
	assert.InDelta(t, tries*100/999, below, tries/50)
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
		resetOnClose(fd)
		require.NoError(t, narrow(fd, window))
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
