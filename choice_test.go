package safedial

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial/internal/nstest"
)

// TestChoice goes through every port to avoid, with and without a second one, every own
// port, system range and allowed range of a small world at the bottom, the middle and the
// top of the port numbers.
func TestChoice(t *testing.T) {
	cases := 0
	for _, base := range []int{1, 40000, 65535 - 5} {
		ports := PortRange{uint16(base), uint16(base + 5)}
		for _, system := range subranges(ports) {
			for _, allowed := range append(subranges(ports), everyPort) {
				for port := base - 1; port <= min(base+6, 65535); port++ {
					for _, avoid := range [][]PortRange{nil, Ports(uint16(port)), {{uint16(port), uint16(min(port+2, 65535))}}} {
						for _, known := range []bool{true, cases%50 != 0} {
							own := uint16(base + cases%7)
							s := &systemPorts{local: system, known: known, reserved: Ports(uint16(base + cases%5))}
							checkChoice(t, s, allowed, avoid, own)
							cases++
						}
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

// checkChoice checks that the parts hold each port once that may be chosen, and no other,
// as the kernel takes them if the system's range is known, and that the own port is last.
func checkChoice(t *testing.T, s *systemPorts, allowed PortRange, avoid []PortRange, own uint16) {
	t.Helper()
	d := Dialer{LocalPorts: allowed, AvoidPorts: avoid}
	l := limits{
		only:  d.LocalPorts,
		avoid: merge(slices.DeleteFunc(slices.Clone(avoid), func(r PortRange) bool { return r.Len() == 0 })),
	}
	c := choice{limits: &l, ports: s, dest: netip.MustParseAddrPort("192.0.2.1:1")}
	c.fill(allowed, own, true)
	what := fmt.Sprintf("around %v and %d, of %v, system %+v", avoid, own, allowed, s)

	var covered [1 << 16]uint8
	low, high := uint16(1), uint16(65535)
	if s.known {
		low, high = s.local.Low, s.local.High
	}
	for ; c.next < c.count(); c.next++ {
		r := c.part()
		if s.known {
			r = clamp(r, s.local)
		}
		for p := int(max(r.Low, 1)); p <= int(r.High); p++ {
			covered[p]++
			if p == int(own) {
				require.Equal(t, c.count()-1, c.next, "the own port is not last: %s", what)
			}
		}
	}
	for p := int(low); p <= int(high); p++ {
		port := uint16(p)
		want := uint8(0)
		if l.allows(port) {
			want = 1
		}
		isReserved := s.known && slices.Contains(s.reserved, PortRange{port, port})
		if covered[p] != want && !isReserved {
			t.Fatalf("port %d is there %d times, %s", p, covered[p], what)
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

// TestChoiceIsWeighed: each port other than the destination's is equally likely to be in
// the first part, and a reserved one does not count.
func TestChoiceIsWeighed(t *testing.T) {
	const tries = 20000
	s := &systemPorts{local: PortRange{1000, 1999}, known: true, reserved: []PortRange{{1500, 1899}}}
	first := func(seed uint32) PortRange {
		c := choice{limits: new(limits), ports: s, seed: seed, dest: netip.MustParseAddrPort("192.0.2.1:1")}
		c.fill(everyPort, 1100, false)
		require.Equal(t, 3, c.count())
		return c.part()
	}
	below := 0
	for range tries {
		if first(0) == (PortRange{1, 1099}) {
			below++
		}
	}
	assert.InDelta(t, tries*100/599, below, tries/50)
	assert.Equal(t, PortRange{1, 1099}, first(1))
	assert.Equal(t, PortRange{1101, 65535}, first(math.MaxUint32))
}

// TestChoiceOnThisHost: a socket does not try the port from which it would be connected to
// itself.
func TestChoiceOnThisHost(t *testing.T) {
	for addr, own := range map[string]uint16{
		"127.0.0.1": 0, "127.1.2.3": 40000, "::1": 0, "::ffff:127.0.0.1": 0, "0.0.0.0": 0, "::": 0, "::%lo": 0,
		"192.0.2.1": 40000, "2001:db8::1": 40000, "fe80::1%lo": 40000,
	} {
		c := choice{limits: new(limits), ports: &systemPorts{local: everyPort, known: true}}
		c.dest = netip.AddrPortFrom(netip.MustParseAddr(addr), 40000)
		c.toSelf = meetsItself(nil, c.dest.Addr())
		require.NoError(t, c.make())
		assert.Equal(t, own, c.own, addr)
		assert.Len(t, c.parts, 2, addr)
	}
}

// TestChoiceIsLinear: the longest lists take as long for each range as short ones.
func TestChoiceIsLinear(t *testing.T) {
	lists := func(n int) *choice {
		s := &systemPorts{local: PortRange{1, 65535}, known: true}
		l := new(limits)
		for i := range n {
			port := uint16(65535 / n * i)
			l.avoid = append(l.avoid, PortRange{port + 1, port + 1})
			s.reserved = append(s.reserved, PortRange{port + 2, port + 2})
		}
		return &choice{limits: l, ports: s}
	}
	// The same number of ranges, in lists of that length.
	filled := func(n int) func() {
		c := lists(n)
		return func() {
			for range 16_000 / n {
				c.clear()
				c.fill(everyPort, 0, true)
			}
		}
	}
	nstest.AssertRatio(t, 8, filled(500), filled(16_000)) // 32, if it were quadratic
}

// FuzzChoice is TestChoice for any ranges.
func FuzzChoice(f *testing.F) {
	f.Add(uint16(40000), uint16(32768), uint16(60999), uint16(0), uint16(0), []byte{})
	f.Add(uint16(32768), uint16(32768), uint16(60999), uint16(0), uint16(40000), []byte{0x9c, 0x40, 0x9c, 0x42})
	f.Add(uint16(60999), uint16(32768), uint16(60999), uint16(50000), uint16(0), []byte{0, 0, 0, 0})
	f.Add(uint16(1), uint16(1), uint16(1), uint16(1), uint16(1), []byte{0, 0, 0, 5, 0xff, 0, 0xff, 0xff})
	f.Add(uint16(65535), uint16(65535), uint16(65535), uint16(1), uint16(65535), []byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, own, systemLow, systemHigh, low, high uint16, list []byte) {
		if systemLow == 0 || systemHigh < systemLow {
			return // no kernel takes it
		}
		d := Dialer{LocalPorts: PortRange{low, high}}
		for ; len(list) >= 4; list = list[4:] {
			a, b := binary.BigEndian.Uint16(list), binary.BigEndian.Uint16(list[2:])
			d.AvoidPorts = append(d.AvoidPorts, PortRange{min(a, b), max(a, b)})
		}
		l, err := d.portLimits()
		if err != nil {
			require.True(t, strings.Contains(err.Error(), "above the last") || !hookConnects, "%v", err)
			return
		}
		allowed := l.only
		if allowed == (PortRange{}) {
			allowed = everyPort
		}
		for _, known := range []bool{true, false} {
			checkChoice(t, &systemPorts{local: PortRange{systemLow, systemHigh}, known: known}, allowed, l.avoid, own)
		}
	})
}
