package safedial

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// cachedPortsFor is how long a portState is used: reading it takes several system
// calls, which is too much for each dial.
const cachedPortsFor = 100 * time.Millisecond

// A portState holds the local ports of the system, as last read.
type portState struct {
	local    PortRange // everyPort, if unknown
	known    bool
	reserved []PortRange
	read     time.Time
}

var cachedPorts atomic.Pointer[portState]

// systemPorts returns the state of the local ports as it was up to cachedPortsFor
// ago, perhaps that of another network namespace.
func systemPorts() *portState {
	if s := cachedPorts.Load(); s != nil && time.Since(s.read) < cachedPortsFor {
		return s
	}
	return readSystemPorts()
}

// readSystemPorts reads the state of the local ports anew.
func readSystemPorts() *portState {
	s := &portState{local: everyPort, read: time.Now()}
	if r, err := LocalPortRange(); err == nil {
		s.local, s.known = r, true
		s.reserved, _ = ReservedPorts()
	}
	cachedPorts.Store(s)
	return s
}

// mayChoose reports whether the system may choose port, as far as is known.
func (s *portState) mayChoose(port uint16) bool {
	if !s.known {
		return defaultPortRange.Contains(port)
	}
	return s.local.Contains(port)
}

// excludes reports whether the system is known not to choose port.
func (s *portState) excludes(port uint16) bool { return s.known && !s.local.Contains(port) }

// otherParity reports whether port is one that the kernel chooses last: one in the
// local port range, of the other parity than the first port of the range.
func (s *portState) otherParity(port uint16) bool {
	return s.known && s.local.Contains(port) && (port-s.local.Low)%2 == 1
}

// usable returns how many ports of r the kernel may choose.
func (s *portState) usable(r PortRange) int {
	r = r.intersect(s.local)
	n := r.Len()
	for _, reserved := range s.reserved {
		n -= r.intersect(reserved).Len()
	}
	return n
}

// A crowdedTable remembers the destinations for which the kernel had no port of
// the first parity left. Destinations with the same hash replace each other.
type crowdedTable [64]atomic.Pointer[crowdedDest]

// A crowdedDest is a destination that counts as crowded for a while.
type crowdedDest struct {
	dest  netip.AddrPort
	until time.Time
}

var (
	crowded  crowdedTable
	hashSeed = maphash.MakeSeed()
)

// crowdedFor is how long a destination counts as crowded before one dial tries it
// without the option again.
const crowdedFor = 10 * time.Second

func (t *crowdedTable) entry(dest netip.AddrPort) *atomic.Pointer[crowdedDest] {
	return &t[maphash.Comparable(hashSeed, dest)%uint64(len(t))]
}

// has reports whether dest is crowded. When its time is up, one caller learns that
// it is not, and is expected to call set.
func (t *crowdedTable) has(dest netip.AddrPort) bool {
	entry := t.entry(dest)
	c := entry.Load()
	if c == nil || c.dest != dest {
		return false
	}
	now := time.Now()
	return now.Before(c.until) || !entry.CompareAndSwap(c, &crowdedDest{dest, now.Add(crowdedFor)})
}

// set notes whether dest is crowded.
func (t *crowdedTable) set(dest netip.AddrPort, isCrowded bool) {
	entry := t.entry(dest)
	if isCrowded {
		entry.Store(&crowdedDest{dest, time.Now().Add(crowdedFor)})
	} else if c := entry.Load(); c != nil && c.dest == dest {
		entry.CompareAndSwap(c, nil)
	}
}

// splitAround appends to ranges the parts of allowed between the ports to avoid
// that hold a port which the kernel may choose.
//
// A part without such a port must not be used: IP_LOCAL_PORT_RANGE ignores each
// bound that lies outside the system's range, so a part that lies outside that
// range would mean the whole range, the avoided ports included.
func (s *portState) splitAround(ranges []PortRange, allowed PortRange, avoid []uint16) []PortRange {
	next := int(max(allowed.Low, 1))
	add := func(end int) {
		if next <= end {
			part := PortRange{Low: uint16(next), High: uint16(end)}
			if s.usable(part) > 0 {
				ranges = append(ranges, part)
			}
		}
	}
	for _, port := range avoid {
		if allowed.Contains(port) {
			add(int(port) - 1)
			next = max(next, int(port)+1)
		}
	}
	add(int(allowed.High))
	return ranges
}

// pick returns the index of one of the ranges, in proportion to how many ports of
// each the kernel may choose, so that all ports are used alike. The number n is
// random.
func (s *portState) pick(ranges []PortRange, n uint32) int {
	total := 0
	for _, r := range ranges {
		total += s.usable(r)
	}
	if total == 0 {
		return 0
	}
	at := int(uint64(n) * uint64(total) >> 32)
	return slices.IndexFunc(ranges, func(r PortRange) bool {
		at -= s.usable(r)
		return at < 0
	})
}
