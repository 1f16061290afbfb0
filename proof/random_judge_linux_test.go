package proof

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

// A forecast is what must come of the dials of a scenario. The kernel says so, of bare
// sockets.
type forecast struct {
	plan    []socketAddr // the sockets of the dial
	results []string     // the class of each
	want    string       // the class of the dial; "": not known
	meets   bool         // the kernel may choose the destination's port, and so the socket itself
	usable  int          // how many ports the caller and the system allow
	others  int          // those that are not the destination's
}

// odd is the class of a socket for which net refuses LocalAddr, or makes it another.
const odd = "odd"

// foresee finds out, for each socket, what comes of it from each port.
func (w *world) foresee(s *scenario) forecast {
	f := forecast{plan: s.plan(), usable: s.Width + 1}
	for _, a := range f.plan {
		f.results = append(f.results, w.foreseeSocket(s, a, &f))
	}
	switch {
	case len(f.plan) == 0 || controls[s.Control].fails || slices.Contains(f.results, odd):
	case slices.Contains(f.results, "connected"):
		f.want = "connected"
	default:
		f.want = f.results[0]
	}
	return f
}

// foreseeSocket returns the class of a socket: of the port that it is dialed from, or of
// the best port.
func (w *world) foreseeSocket(s *scenario, a socketAddr, f *forecast) string {
	if s.isOdd(a) {
		return odd
	}
	if s.fixed() {
		result := class(w.probe(s, a, 0))
		f.meets = f.meets || result == "self"
		return result
	}
	best := "no port"
	f.usable, f.others = 0, 0
	for i := range s.Width + 1 {
		result := class(w.probe(s, a, uint16(s.first()+i)))
		f.meets = f.meets || result == "self"
		if !s.allows(i) || slices.Contains(s.Reserved, i) {
			continue
		}
		f.usable++
		if i != s.Port {
			f.others++
		}
		if rank(result) < rank(best) {
			best = result
		}
	}
	return best
}

// rank orders what came of the ports: a dial uses the one with the lowest.
func rank(result string) int {
	if i := slices.Index([]string{"connected", "refused", "self", "no port"}, result); i >= 0 {
		return i
	}
	return 1
}

// A failure is a difference between what must come of a dial and what came.
type failure struct{ kind, want, got string }

func failed(kind string, want, got any) *failure {
	return &failure{kind, fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", got)}
}

// A trial is a dial in a scenario, to be judged.
type trial struct {
	w    *world
	s    *scenario
	f    forecast
	net  *dialed // what net.Dialer did; nil if it does not do the same each time
	safe *dialed // what safedial did
}

// judge compares what safedial did with what was foreseen, and with net.Dialer.
func (t *trial) judge() *failure {
	switch {
	case t.safe.Panic != nil && t.s.Control != "panics":
		return failed("panic", nil, t.safe.Panic)
	case t.safe.took > 10*time.Second:
		return failed("slow", "in time", t.safe.took)
	case !t.viaNet() && !slices.IsSorted(t.safe.attempts):
		return failed("Attempt decreases", "ascending", t.safe.attempts)
	}
	checks := []func() *failure{t.judgeCalls, t.judgeRetries, t.judgeError}
	if t.safe.Conn != "" {
		checks = append(checks, t.judgeSelf, t.judgePort, t.judgePeer, t.judgeOptions)
	}
	if t.net != nil {
		checks = append(checks, t.compare)
	}
	for _, check := range checks {
		if fail := check(); fail != nil {
			return fail
		}
	}
	return nil
}

func (t *trial) viaNet() bool { return t.s.Way == "NetDialer" }

// isUnchecked reports whether nobody checks the connection.
func (t *trial) isUnchecked() bool { return t.viaNet() && t.s.udp() }

// mayNotKnow reports whether the library may not know the local ports.
func (t *trial) mayNotKnow() bool { return t.w.unknown || t.w.stale }

// dialsBothFamilies reports whether addresses are dialed that do not suit LocalAddr, as
// net does not know it.
func (t *trial) dialsBothFamilies() bool { return t.viaNet() && t.s.Local != "" }

// leavesPortOut reports whether connect(2) leaves a port out, by chance: one of an odd
// number, without IP_LOCAL_PORT_RANGE.
func (t *trial) leavesPortOut() bool {
	return t.s.hasOddRange() && (t.w.noOption || t.s.MaxRetries < 0)
}

// judgeCalls judges the calls of the caller's hook: for sockets of the plan, in its
// order, the whole plan anew for a retry, and not too often for each.
func (t *trial) judgeCalls() *failure {
	if t.dialsBothFamilies() || t.s.Way == "typed" && t.s.End != "" {
		return nil // Go 1.26 and 1.27 differ for a context that has ended
	}
	plan, calls := slices.Clone(t.f.plan), slices.Clone(t.safe.calls)
	if strings.HasPrefix(t.s.Local, "[::]") || strings.HasPrefix(t.s.Local, "[::%") {
		withoutFamily(plan) // an IPv4 socket dials IPv4
		withoutFamily(calls)
	}
	next := 0
	for _, call := range slices.Compact(slices.Clone(calls)) {
		switch {
		case next < len(plan) && call == plan[next]:
			next++
		case len(plan) > 0 && call == plan[0]:
			next = 1
		default:
			return failed("calls Control otherwise than net.Dialer", plan, t.safe.calls)
		}
	}
	if most := t.mostCalls() * len(plan); len(calls) > most {
		return failed("calls Control too often", fmt.Sprintf("at most %d times", most), len(calls))
	}
	return nil
}

func withoutFamily(list []socketAddr) {
	for i := range list {
		list[i].network = list[i].network[:3]
	}
}

// mostCalls is how often the hook may be called for a socket.
func (t *trial) mostCalls() int {
	attempts := 1 + max(0, t.s.MaxRetries)
	parts := len(t.s.AvoidPorts) + 2
	if t.s.AvoidFar {
		parts += farPorts
	}
	switch {
	case t.s.End == waiting:
		attempts = 13 // in a tenth of a second, the pauses becoming longer
	case t.s.MaxRetries == 0:
		attempts = 3
	}
	switch {
	case t.s.udp(): // each may use each part of the ports twice, and the first may meet itself
		return 2*attempts*parts + 1
	case portable || t.s.fixed() || controls[t.s.Control].fails:
		attempts *= 3 // net's own repeats
	default:
		attempts *= parts // a connection from each part may be undone
	}
	if t.s.Multipath {
		attempts *= 2
	}
	return attempts
}

// judgeRetries judges that a dial does not wait for a port at one address while another
// one can be dialed.
func (t *trial) judgeRetries() *failure {
	most := 2 * len(t.f.plan)
	if t.f.want != "connected" || len(t.safe.attempts) <= most ||
		t.viaNet() || t.s.udp() || t.s.Multipath || t.w.noOption {
		return nil
	}
	return failed("waits although an address can be dialed",
		fmt.Sprintf("at most %d retries", most), t.safe.attempts)
}

func (t *trial) judgeSelf() *failure {
	if t.safe.isSelf && !t.isUnchecked() {
		return failed("returns a self-connection", t.f.want, t.safe.connection())
	}
	return nil
}

func (t *trial) judgePort() *failure {
	port := int(t.safe.port) // 0: not known
	switch {
	case t.s.fixed() || t.isUnchecked() && t.mayNotKnow() || slices.Contains(t.f.results, odd):
		return nil
	case t.s.limited() && t.w.noOption:
		return failed("ignores the limits", "an error", t.safe.connection())
	case t.f.usable == 0 || port != 0 && !t.s.allows(port-t.s.first()):
		return failed("uses a port that is not allowed", t.s, t.safe.connection())
	}
	return nil
}

// judgePeer judges that the first address was dialed that can be.
func (t *trial) judgePeer() *failure {
	// net orders a name's addresses by the sockets that it connects to them.
	unordered := t.w.errno == unix.EMFILE && t.s.isName()
	if t.safe.remote == "" || t.w.looks || t.s.PortZero || unordered || slices.Contains(t.f.results, odd) {
		return nil
	}
	var hosts []string
	for i, a := range t.f.plan {
		hosts = append(hosts, t.s.peer(a))
		if t.f.results[i] == "connected" && !t.leavesPortOut() && !t.isUnchecked() &&
			!t.w.unknown { // the first may need more sockets than there are retries
			break
		}
	}
	if slices.Contains(hosts, t.safe.remote) {
		return nil
	}
	return failed("connects to another address", hosts, t.safe.connection())
}

// peer returns the host that the socket is connected to.
func (s *scenario) peer(a socketAddr) string {
	addr, _ := a.ends()
	switch host := addr.Addr(); {
	case host == netip.IPv6Unspecified():
		return "::1"
	case host.IsUnspecified() && strings.HasPrefix(s.Local, "own"):
		return nstest.OwnAddress
	case host.IsUnspecified():
		return "127.0.0.1"
	default:
		return host.Unmap().String()
	}
}

func (t *trial) judgeOptions() *failure {
	kept := controls[t.s.Control].keeps
	for _, line := range t.safe.Options {
		if strings.HasPrefix(line, kept) {
			return nil
		}
	}
	return failed("loses what Control has set", kept, t.safe.Options)
}

// judgeError judges the class of an error.
func (t *trial) judgeError() *failure {
	came := class(t.safe.err)
	switch {
	case t.safe.err == nil:
		return nil
	case len(t.safe.err.Error()) > 400:
		return failed("a long error", "less than 400 bytes", t.safe.err)
	case came == t.f.want || t.f.want == "" || t.excuses(came):
		return nil
	case !reflect.DeepEqual(t.w.foresee(t.s), t.f):
		return nil // another socket has gone, or come
	}
	return failed(came+" instead of "+t.f.want, fmt.Sprintf("%s: %v", t.f.want, t.f.results), t.safe.err)
}
