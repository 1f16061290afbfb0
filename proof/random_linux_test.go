package proof

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/safedial/safedial/internal/nstest"
)

var (
	randomFor  = flag.Duration("for", 0, "dial in random scenarios for so long, instead of in a few hundred")
	randomSeed = flag.Uint64("seed", 0, "dial in the random scenario of this seed alone")
)

// TestRandom dials in random scenarios, in each environment, and compares what comes of
// it with what net.Dialer does and with what bare sockets do. A failure is printed with
// the smallest scenario that still fails, and with its seed. Without -for, the scenarios
// are the same each time, and one that fails must do so again: much of what happens in them
// is chance.
func TestRandom(t *testing.T) {
	for _, e := range environments {
		if portable && (e.unknown || e.stale || e.looks || e.noLinger) {
			continue // other systems have nothing like it, and net itself fails in some
		}
		t.Run(e.name, func(t *testing.T) {
			isolated(t, func(t *testing.T) { explore(newWorld(t, e)) })
		})
	}
}

// explore tries scenarios until it is time to end, or many have failed.
func explore(w *world) {
	scenarios, most := 0, 150
	if portable {
		most = 50 // each must wait for the local ports to be read
	}
	seed := uint64(1)
	if *randomFor != 0 {
		seed = rand.Uint64N(1e9) * 8 // short, for the command line
	}
	// So many environments run side by side.
	parallel := time.Duration(min(len(environments), runtime.GOMAXPROCS(0)))
	deadline := time.Now().Add(*randomFor * parallel / time.Duration(len(environments)))
	more := func() bool {
		switch {
		case *randomSeed != 0:
			return scenarios == 0
		case *randomFor != 0:
			return time.Now().Before(deadline)
		}
		return scenarios < most
	}
	reported := map[string]int{}
	for ; more() && len(reported) < 10; scenarios++ {
		if *randomSeed != 0 {
			seed = *randomSeed
		}
		s := newScenario(seed)
		f := w.replay(s, "")
		if f != nil && *randomFor == 0 && w.replay(s, f.kind) == nil {
			w.t.Logf("seed %d: %s, but not again", seed, f.kind)
			f = nil
		}
		if f != nil {
			smallest, f := w.shrink(s, f)
			text := fmt.Sprintf("%s\nsmallest: %v\nexpected: %s\ncame: %s", f.kind, smallest, f.want, f.got)
			if reported[smallest.String()]++; reported[smallest.String()] == 1 {
				w.t.Errorf("seed %d: %s\nscenario: %v\nagain: go test ./proof -run '%s$' -seed %d",
					seed, text, s, w.t.Name(), seed)
			}
		}
		seed++
	}
	w.t.Logf("%d scenarios", scenarios)
}

// replay tries a scenario, a few times if it has been chosen. It returns a failure of the
// kind, or of any if that is "".
func (w *world) replay(s *scenario, kind string) *failure {
	times := 1
	if kind != "" || *randomSeed != 0 {
		times = 10
	}
	for range times {
		if f := w.try(s); f != nil && (kind == "" || f.kind == kind) {
			return f
		}
	}
	return nil
}

// shrink returns the smallest scenario that fails as s does.
func (w *world) shrink(s *scenario, f *failure) (*scenario, *failure) {
	for _, less := range s.smaller() {
		if again := w.replay(less, f.kind); again != nil {
			return w.shrink(less, again)
		}
	}
	return s, f
}

// try dials s, a few times, as much of it is the kernel's choice.
func (w *world) try(s *scenario) *failure {
	w.t.Helper()
	defer w.settle(s)
	defer w.reset()
	w.build(s)
	f := w.foresee(s)
	var net *dialed
	if w.isComparable(s, f) {
		net = w.dial(s, false)
	}
	for range 3 {
		t := trial{w, s, f, net, w.dial(s, true)}
		if fail := t.judge(); fail != nil {
			return fail
		}
	}
	if w.noLinger && (portable || slices.Contains(f.results, odd)) {
		return nil // net connects
	}
	isTaken := slices.ContainsFunc(s.Taken, func(u taken) bool { return u.Port == s.Port })
	if s.Server != "" || s.PortZero || isTaken || w.isFree(s.port(), 5*time.Second) {
		return nil
	}
	return failed("the port is not free", "free", nstest.SocketsOn(w.t, uint16(s.port())))
}

// settle waits until nothing is left of a scenario.
func (w *world) settle(s *scenario) {
	w.t.Helper()
	if s.Control == "panics" {
		return // the socket stays open, as with net.Dialer
	}
	if nstest.OpenDescriptors(w.t) > w.descriptors || runtime.NumGoroutine() > w.goroutines {
		ok := w.t.Run("left", func(t *testing.T) { nstest.AssertNothingLeft(t, w.descriptors, w.goroutines+1) })
		if !ok {
			w.t.Logf("left by %v", s)
		}
	}
}
