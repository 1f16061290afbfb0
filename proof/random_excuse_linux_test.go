package proof

import (
	"reflect"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// excuses reports whether an error of the class is allowed, although another class, or
// a connection, is foreseen.
func (t *trial) excuses(came string) bool {
	s, f := t.s, &t.f
	noneFree := f.want != "connected" && f.want != "refused"
	if !s.fixed() && (f.usable == 0 || s.limited() && f.others == 0 && noneFree) {
		return true // the error says which setting leaves no port
	}
	if (t.w.looks || s.End != "") && slices.Contains(f.results, came) {
		return true // of an address before the one that cannot be checked, or before the end
	}
	if t.meetsItselfFirst() || came == "refused" && noneFree {
		return true // or a port was found that is not free to bind(2)
	}
	if t.dialsBothFamilies() && strings.HasPrefix(s.Control, "binds") {
		return true // the address of the other family
	}
	switch came {
	case "ended":
		return s.End != "" && (s.End != waiting || noneFree || t.leavesPortOut() || t.isSlow())
	case "self":
		return t.excusesSelf()
	case "no port":
		return t.excusesNoPort()
	case "unsupported":
		if t.w.unknown && s.Control == "locks a filter" {
			return true // each part that the kernel ignores takes another socket
		}
		refused := t.w.noOption || s.Multipath && t.w.oldKernel
		bindsUnseen := t.isUnchecked() && s.Local != "" && t.mayNotKnow() // net binds after the hook
		return s.limited() && !s.fixed() && (refused || bindsUnseen || s.End != "" || t.mayNotKnow() && noneFree)
	case "another error":
		unseen := t.w.errno == unix.EACCES && s.limited() && strings.HasPrefix(s.Control, "binds") // getsockname(2) fails
		return unseen || t.dialsBothFamilies()                                                     // of the other family
	case unix.EMFILE.Error():
		// A UDP socket with another port than wanted is kept.
		return t.w.errno == unix.EMFILE && s.udp() && (f.meets || s.limited())
	case t.w.errno.Error():
		hooked := len(t.safe.calls) > 0 || s.Local != "" // where is it bound?
		return t.w.looks && (f.want == "connected" || f.meets || hooked)
	}
	return false
}

// excusesSelf reports whether the dial may end with a self-connection although there is
// another port.
func (t *trial) excusesSelf() bool {
	onlyLooked := t.w.noOption || t.mayNotKnow() && t.s.MaxRetries < 0 || t.s.End != ""
	samePort := t.s.udp() && (t.viaNet() || t.s.Control == "sets SO_REUSEADDR") // each time
	noPort := t.f.want == "no port" && t.mayNotKnow()                           // and so tries one that is not allowed
	if t.viaNet() && t.s.Control == "locks a filter" {
		return true // the hook fails when it is called again, and there is no other socket
	}
	if t.w.noOption && strings.HasPrefix(t.s.Local, "[::") {
		return true // from an IPv4 socket, of which the forecast knows nothing
	}
	oddPart := t.w.oldKernel && t.s.Width > 0 // whose last port is never chosen
	return t.f.meets && (oddPart || onlyLooked || samePort || noPort)
}

// excusesNoPort reports whether the dial may find no port although there is one.
func (t *trial) excusesNoPort() bool {
	s := t.s
	switch {
	case t.f.want == "self": // the port is in use meanwhile, or is not used
		return true
	case s.udp() && t.viaNet(): // it has one part of the ports
		return true
	case s.Multipath && (s.End != "" || s.fixed()): // MPTCP closes its socket a little later
		return true
	case s.End != "" && t.mayNotKnow(): // before the port that is allowed was tried
		return true
	case portable && (t.f.meets || s.Local != ""): // net binds LocalAddr, and nothing is undone
		return true
	case t.w.oldKernel && s.Width > 0: // leaves a port out with the option, too
		return true
	}
	return t.leavesPortOut() && (t.w.noOption || !s.limited())
}

// meetsItselfFirst reports whether the first address of a UDP dial can be connected to
// from its own port alone. To net that is success, so that it dials no other address.
func (t *trial) meetsItselfFirst() bool { return t.s.udp() && slices.Index(t.f.results, "self") == 0 }

// isSlow reports whether the dial does not wait if it has the time to.
func (t *trial) isSlow() bool {
	patient := *t.s
	patient.End = waitingLong
	return class(t.w.dial(&patient, true).err) != "ended"
}

// isComparable reports whether net.Dialer does the same each time, and the same is
// expected of safedial.
func (w *world) isComparable(s *scenario, f forecast) bool {
	hasOdd := slices.Contains(f.results, odd)
	switch {
	case w.noNet, f.meets, s.Control == "panics", s.limited() && !s.fixed():
		return false
	case !slices.Contains([]string{"", "canceled", "negative Timeout", "past Deadline"}, s.End):
		return false
	case s.Way == "NetDialer" && s.Local != "" && (len(f.plan) == 0 || hasOdd):
		return false // the hook finds out, after the caller's
	case s.Way == "NetDialer" && s.udp() && len(f.plan) > 1:
		return false // it has one part of the ports, and may dial the next address if that is full
	case s.Way == "typed" && s.End != "" && (s.Local == "" || strings.HasPrefix(runtime.Version(), "go1.26")):
		return false // safedial does as Go 1.27, and net is dialed without an address to dial from
	case s.hasOddRange():
		return false // connect(2) may leave the port out that net could use
	case w.errno == unix.EMFILE && s.isName():
		return false // there are not always enough of them to order the addresses
	case strings.HasPrefix(s.Local, "[::") && strings.HasPrefix(s.Control, "binds"):
		return false // to an address of another family
	}
	// net's socket may meet itself although the probes did not: it takes a port before it
	// connects, and some addresses have no probe.
	local, bound := localAddrs[s.Local]
	early := hasOdd || !s.udp() && local.Port == 0
	atHome := s.Port >= 0 && s.Port <= s.Width || local.Port == destinationPort
	return !(bound && early && atHome && s.Server != "all")
}

// compare compares what safedial did with what net.Dialer did.
func (t *trial) compare() *failure {
	if t.callsOtherwise() {
		return failed("calls Control otherwise than net.Dialer", t.net.calls, t.safe.calls)
	}
	came, nets := class(t.safe.err), class(t.net.err)
	switch {
	case nets == "no port" && isCall(t.net.err, "bind") && !t.s.fixed():
		return nil // net takes a port before it connects
	case nets == "no port" && came == t.f.want:
		return nil // connect(2) has left one port out, for net
	case t.safe.err != nil && came != t.f.want && t.excuses(came):
		return nil
	}
	for range 10 { // net, too, may do one of two things
		if reflect.DeepEqual(t.seen(t.net), t.seen(t.safe)) {
			return nil
		}
		t.net = t.w.dial(t.s, false)
	}
	kind := "differs from net.Dialer"
	if (t.net.Conn == "") != (t.safe.Conn == "") {
		kind = "fails or connects, unlike net.Dialer"
	}
	return failed(kind, t.seen(t.net), t.seen(t.safe))
}

// callsOtherwise reports whether the hook is called as it is not by net.Dialer: not at
// all, or again after it has failed.
func (t *trial) callsOtherwise() bool {
	nets, safes := len(t.net.calls), len(t.safe.calls)
	// net repeats a hook's EADDRNOTAVAIL if it has no port, of which it is not told.
	repeats := t.s.Control == "fails without port" && t.s.fixed()
	switch {
	case t.dialsBothFamilies(), strings.HasPrefix(t.s.Local, "[::") && strings.HasPrefix(t.s.Host, "::"):
		return false // from IPv6, net dials "::" once more, as 0.0.0.0
	case controls[t.s.Control].fails && t.s.End == "" && !repeats:
		return nets != safes
	}
	return (nets == 0) != (safes == 0)
}

// seen returns what is compared.
func (t *trial) seen(d *dialed) outcome {
	o := d.outcome
	if strings.HasPrefix(t.s.Local, "[::") {
		o.Options = nil // of a socket of the other family
	}
	isLink := func(line string) bool { return strings.HasPrefix(line, "*fmt.wrapError") }
	switch {
	case t.dialsBothFamilies() && d.err != nil:
		o.Errors = []string{class(d.err)}
	case t.viaNet() && class(d.err) == "no port":
		o.Errors = slices.DeleteFunc(slices.Clone(o.Errors), isLink)
	}
	return o
}
