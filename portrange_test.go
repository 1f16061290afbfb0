package safedial

import (
	"errors"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPortRange(t *testing.T) {
	for _, c := range []struct {
		r       PortRange
		text    string
		length  int
		in, out []uint16
		part    PortRange // in 100-200
	}{
		{PortRange{}, "", 0, nil, []uint16{0, 1, 65535}, PortRange{}},
		{PortRange{150, 150}, "150", 1, []uint16{150}, []uint16{0, 149, 151}, PortRange{150, 150}},
		{PortRange{50, 150}, "50-150", 101, []uint16{50, 99, 150}, []uint16{49, 151}, PortRange{100, 150}},
		{PortRange{200, 300}, "200-300", 101, []uint16{200, 300}, []uint16{199, 301}, PortRange{200, 200}},
		{PortRange{201, 300}, "201-300", 100, []uint16{201}, []uint16{200}, PortRange{}},
		{PortRange{0, 100}, "0-100", 100, []uint16{1, 100}, []uint16{0, 101}, PortRange{100, 100}},
		{PortRange{1, 65535}, "1-65535", 65535, []uint16{1, 65535}, []uint16{0}, PortRange{100, 200}},
		{PortRange{200, 100}, "", 0, nil, []uint16{100, 150, 200}, PortRange{}},
	} {
		assert.Equal(t, c.text, c.r.String())
		assert.Equal(t, c.length, c.r.Len(), "%#v", c.r)
		for _, port := range c.in {
			assert.True(t, c.r.Contains(port), "%v has %d", c.r, port)
		}
		for _, port := range c.out {
			assert.False(t, c.r.Contains(port), "%v has %d", c.r, port)
		}
		assert.Equal(t, c.part, c.r.intersect(PortRange{100, 200}), "%v", c.r)
		assert.Equal(t, c.part, PortRange{100, 200}.intersect(c.r), "%v", c.r)
	}
}

// TestLocalPortRangeHolds: the ports that the system picks are in the range.
func TestLocalPortRangeHolds(t *testing.T) {
	r, err := LocalPortRange()
	if errors.Is(err, errors.ErrUnsupported) {
		assert.Zero(t, r)
		reserved, err := ReservedPorts()
		assert.Nil(t, reserved)
		assert.ErrorIs(t, err, errors.ErrUnsupported)
		ephemeral, err := IsEphemeral(40000)
		assert.False(t, ephemeral)
		assert.ErrorIs(t, err, errors.ErrUnsupported)
		return
	}
	require.NoError(t, err)
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		port := addrPort(l.Addr()).Port()
		assert.True(t, r.Contains(port), "the system picked %d, outside of %s", port, r)
		ephemeral, err := IsEphemeral(port)
		assert.NoError(t, err)
		assert.True(t, ephemeral, "the system picked %d", port)
	}
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
	assert.Equal(t, defaultPortRange.Contains(32767), unknown.mayChoose(32767), "below Linux's default")
	assert.False(t, unknown.otherParity(40000), "no parity")
}

// TestCrowded: a destination is crowded for ten seconds; then one dial asks again.
func TestCrowded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var table crowdedTable
		dest := netip.MustParseAddrPort("192.0.2.1:80")
		other := dest
		for n := uint16(1); table.entry(other) != table.entry(dest) || other == dest; n++ {
			other = netip.AddrPortFrom(dest.Addr(), n)
		}
		assert.False(t, table.has(dest))
		table.set(dest, true)
		assert.True(t, table.has(dest))
		assert.False(t, table.has(other), "of the same entry")
		table.set(other, false)
		assert.True(t, table.has(dest), "cleared by another")
		table.set(dest, false)
		assert.False(t, table.has(dest))

		table.set(dest, true)
		time.Sleep(crowdedFor - time.Nanosecond)
		assert.True(t, table.has(dest))
		time.Sleep(time.Nanosecond)
		assert.False(t, table.has(dest), "the one that asks again")
		assert.True(t, table.has(dest), "the others")
	})
}

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

// checkSplit checks that the parts hold each port once that may be chosen, and no other.
func checkSplit(t *testing.T, avoid []uint16, system, allowed PortRange) {
	t.Helper()
	var covered [1 << 16]uint8
	state := &portState{local: system, known: true}
	for _, part := range state.splitAround(nil, allowed, avoid) {
		effective := clamp(part, system)
		require.Positive(t, effective.Len())
		for p := int(effective.Low); p <= int(effective.High); p++ {
			covered[p]++
		}
	}
	for p := int(system.Low); p <= int(system.High); p++ {
		want := uint8(0)
		if allowed.Contains(uint16(p)) && !slices.Contains(avoid, uint16(p)) {
			want = 1
		}
		if covered[p] != want {
			t.Fatalf("port %d is there %d times, around %d, system %v, allowed %v", p, covered[p], avoid, system, allowed)
		}
	}
}

// clamp is what the kernel makes of r: it ignores a bound outside system.
func clamp(r, system PortRange) PortRange {
	effective := system
	if system.Contains(r.Low) {
		effective.Low = r.Low
	}
	if system.Contains(r.High) {
		effective.High = r.High
	}
	return effective
}

// TestPickIsWeighed: each port other than the destination's is equally likely, and a
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

// FuzzSplitAround is the same for any port to avoid, system range and LocalPorts.
func FuzzSplitAround(f *testing.F) {
	f.Add(uint16(40000), uint16(32768), uint16(60999), uint16(0), uint16(0))
	f.Add(uint16(32768), uint16(32768), uint16(60999), uint16(0), uint16(40000))
	f.Add(uint16(60999), uint16(32768), uint16(60999), uint16(50000), uint16(0))
	f.Add(uint16(1), uint16(1), uint16(1), uint16(1), uint16(1))
	f.Add(uint16(65535), uint16(65535), uint16(65535), uint16(1), uint16(65535))
	f.Add(uint16(0), uint16(1), uint16(2), uint16(3), uint16(4))
	f.Fuzz(func(t *testing.T, port, systemLow, systemHigh, low, high uint16) {
		if systemLow == 0 || systemHigh < systemLow {
			return // no kernel takes it
		}
		allowed := PortRange{low, high}
		if allowed == (PortRange{}) {
			allowed = everyPort
		}
		checkSplit(t, []uint16{port}, PortRange{systemLow, systemHigh}, allowed)
	})
}
