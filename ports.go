package safedial

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// limits are the ports that a Dialer allows the system to choose as the local port. They
// hold for a socket of which neither LocalAddr nor the caller's hook has chosen the port.
type limits struct {
	only  PortRange   // LocalPorts; the zero PortRange: no limit
	avoid []PortRange // AvoidPorts, ascending, with other ports between them
}

// portLimits returns d's limits. It fails if a range is the wrong way round, and on
// systems that cannot be told which ports to choose from.
//
// To dial again until the system happens to choose an allowed port would be no substitute.
// connect(2) searches in sequence, so the next port lies beside the last one: with half of
// the ports avoided, dials would fail now and then, and the server would see each attempt.
//
// The caller's slice is not changed. The copy is sorted, so that the parts can be made, and
// the reserved ports counted, in one pass.
func (d *Dialer) portLimits() (limits, error) {
	l := limits{only: d.LocalPorts}
	if l.only != (PortRange{}) && l.only.Len() == 0 {
		return l, errReversed("local ports", l.only)
	}
	if len(d.AvoidPorts) > 0 {
		l.avoid = make([]PortRange, 0, len(d.AvoidPorts))
	}
	for _, r := range d.AvoidPorts {
		if r == (PortRange{}) {
			continue // port 0, which no socket has
		}
		if r.Len() == 0 {
			return l, errReversed("avoid ports", r)
		}
		l.avoid = append(l.avoid, r)
	}
	slices.SortFunc(l.avoid, func(a, b PortRange) int { return cmp.Compare(a.Low, b.Low) })
	l.avoid = merge(l.avoid)
	if !hookConnects && l.limited() {
		return l, errLimitsUnsupported(l.String(), nil)
	}
	return l, nil
}

// merge joins ascending ranges that overlap or touch, in place. What is left between two of
// the results is a part with at least one port.
func merge(ranges []PortRange) []PortRange {
	merged := ranges[:0]
	for _, r := range ranges {
		if last := len(merged) - 1; last >= 0 && int(r.Low) <= int(merged[last].High)+1 {
			merged[last].High = max(merged[last].High, r.High)
		} else {
			merged = append(merged, r)
		}
	}
	return merged
}

// limited reports whether there is a limit.
func (l *limits) limited() bool { return l.only != (PortRange{}) || len(l.avoid) > 0 }

// allows reports whether the system may choose port.
func (l *limits) allows(port uint16) bool {
	if l.only != (PortRange{}) && !l.only.Contains(port) {
		return false
	}
	return !contains(l.avoid, port)
}

// contains reports whether port is in one of the ascending ranges.
func contains(ranges []PortRange, port uint16) bool {
	_, found := slices.BinarySearchFunc(ranges, port, func(r PortRange, port uint16) int {
		switch {
		case r.High < port:
			return -1
		case r.Low > port:
			return 1
		}
		return 0
	})
	return found
}

// String describes the limits for an error: "local ports 40000-40999, avoid ports 40001,
// 40010-40019". It names the first four ranges to avoid and counts the others, because lists
// can have thousands, and errors are logged.
func (l *limits) String() string {
	const most = 4
	var text []string
	if l.only != (PortRange{}) {
		text = append(text, "local ports "+l.only.String())
	}
	for i, r := range l.avoid[:min(len(l.avoid), most)] {
		if i == 0 {
			text = append(text, "avoid ports "+r.String())
		} else {
			text = append(text, r.String())
		}
	}
	if more := len(l.avoid) - most; more > 0 {
		text = append(text, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(text, ", ")
}

// systemPorts are the local ports of a network namespace, as they were read.
//
// They can be out of date: root can change them at any moment. They can be another
// namespace's: the files of /proc/sys/net show those of the thread that opens them, and a
// goroutine can run on another thread than before. And a sandbox can hide the files. So they
// only help to choose among the ports that a socket may use. Which one it uses, its own
// address says when it is connected.
type systemPorts struct {
	local    PortRange // the local port range; a guess, if it is not known
	known    bool
	reserved []PortRange // ascending
	read     time.Time
}

// recentFor is how long a dial without limits uses what another one has read. Reading
// takes several system calls, which is too much for each dial. What such a dial takes from
// it is whether to tell the kernel a range at all, and which part comes first. If that is
// wrong, the dial needs one more try.
const recentFor = 100 * time.Millisecond

var recent atomic.Pointer[systemPorts]

// recentPorts returns the system's ports as they were up to recentFor ago. If they cannot
// be read any more, it returns what was read last, which is a better guess than the default
// range. Two dials may read at the same time, which does no harm.
func recentPorts() *systemPorts {
	last := recent.Load()
	if last != nil && time.Since(last.read) < recentFor {
		return last
	}
	s := readPorts()
	if !s.known && last != nil {
		s.local, s.reserved = last.local, last.reserved
	}
	return s
}

// readPorts reads the ports of the thread's network namespace. If that fails (without
// /proc, or without a descriptor to open it), the range is the default one, and the
// failure is not remembered.
func readPorts() *systemPorts {
	s := &systemPorts{local: defaultPortRange, read: time.Now()}
	r, err := LocalPortRange()
	if err != nil {
		return s
	}
	s.local, s.known = r, true
	s.reserved, _ = ReservedPorts() // without them a part may turn out to have no port
	recent.Store(s)
	return s
}

// mayChoose reports whether the system may choose port, as far as is known.
func (s *systemPorts) mayChoose(port uint16) bool {
	return s.local.Contains(port) && !contains(s.reserved, port)
}

// otherParity reports whether port is one that connect(2) tries last: one in the local
// port range, of the other parity than the first port of the range. Since Linux 4.2,
// connect(2) leaves those to bind(2) as long as it can
// (https://git.kernel.org/linus/07f4c90062f8).
func (s *systemPorts) otherParity(port uint16) bool {
	return s.known && s.local.Contains(port) && (port-s.local.Low)%2 == 1
}

// crowded remembers the destinations to which connect(2) had no port of the first parity
// left. Each further dial would search all of them in vain, which takes much longer than the
// dial itself. With IP_LOCAL_PORT_RANGE set, connect(2) goes through the ports one by one
// from a random one, and finds a free one soon.
//
// Destinations with the same hash replace each other. That costs such a search, no more.
var crowded [64]atomic.Pointer[crowdedDest]

// A crowdedDest is a destination that counts as crowded for a while.
type crowdedDest struct {
	dest  netip.AddrPort
	until time.Time
}

// crowdedFor is how long a destination counts as crowded before one dial tries it
// without IP_LOCAL_PORT_RANGE again.
const crowdedFor = 10 * time.Second

var hashSeed = maphash.MakeSeed()

func crowdedEntry(dest netip.AddrPort) *atomic.Pointer[crowdedDest] {
	return &crowded[maphash.Comparable(hashSeed, dest)%uint64(len(crowded))]
}

// isCrowded reports whether dest counts as crowded. When its time is up, exactly one
// caller gets false. It dials without the option, so it finds out, and calls setCrowded if
// it connects.
func isCrowded(dest netip.AddrPort) bool {
	entry := crowdedEntry(dest)
	c := entry.Load()
	if c == nil || c.dest != dest {
		return false
	}
	now := time.Now()
	return now.Before(c.until) || !entry.CompareAndSwap(c, &crowdedDest{dest: dest, until: now.Add(crowdedFor)})
}

// setCrowded notes whether dest is crowded. That a destination no longer is shows when a
// dial without the option gets a port of the first parity: connections have been closed.
func setCrowded(dest netip.AddrPort, is bool) {
	entry := crowdedEntry(dest)
	if is {
		entry.Store(&crowdedDest{dest: dest, until: time.Now().Add(crowdedFor)})
	} else if c := entry.Load(); c != nil && c.dest == dest {
		entry.CompareAndSwap(c, nil)
	}
}
