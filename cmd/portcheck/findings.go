package main

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// A kind says what a socket means for a server that is to have its port.
type kind string

const (
	selfConnection kind = "self-connection"
	connection     kind = "connection"
	bound          kind = "bound"
	server         kind = "server"
	serverAtRisk   kind = "server-at-risk"
	accepted       kind = "accepted"
)

// kinds are in the order in which they are printed.
var kinds = []kind{selfConnection, connection, bound, server, serverAtRisk, accepted}

// A finding is a socket that is printed.
type finding struct {
	Kind        kind           `json:"kind"`
	Network     string         `json:"network"` // "tcp" or "udp"
	Local       netip.AddrPort `json:"local"`
	Remote      netip.AddrPort `json:"remote,omitzero"`
	State       string         `json:"state"`
	SecondsLeft int            `json:"seconds_left,omitempty"` // until the kernel ends TIME_WAIT
	Processes   []process      `json:"processes"`
	Unknown     bool           `json:"process_unknown,omitempty"` // only root can see the process
	Meaning     string         `json:"meaning"`
}

// A process is one that has a socket.
type process struct {
	PID  int    `json:"pid"`
	Name string `json:"name"`
}

// States of a socket that matter here. All others are those of a TCP connection, and
// ESTABLISHED is that of a connected UDP socket too.
const (
	stateTimeWait    = "TIME_WAIT"
	stateListen      = "LISTEN"
	stateBound       = "BOUND"
	stateUnconnected = "UNCONN" // of a UDP socket
)

// A socket is one of the network namespace.
type socket struct {
	network       string
	local, remote netip.AddrPort
	state         string
	left          time.Duration // until the kernel ends a socket that no process has
	inode         uint64        // 0 if no process has it
}

// find returns what portcheck prints of the sockets of the network namespace: all that
// have one of the ports or, without ports, those that block a server or are at risk.
func find(l limits, ports []uint16) ([]finding, error) {
	sockets, err := sockets()
	if err != nil {
		return nil, err
	}
	var listeners []socket
	for _, s := range sockets {
		if s.state == stateListen {
			listeners = append(listeners, s)
		}
	}
	var owners map[uint64][]process
	findings := []finding{}
	for _, s := range sockets {
		var k kind
		if slices.Contains(ports, s.local.Port()) {
			k = s.kind(listeners)
		} else if len(ports) == 0 {
			k = s.kindOfHost(l)
		}
		if k == "" {
			continue
		}
		if owners == nil { // it looks at every process: only if there is something to tell
			if owners, err = socketOwners(); err != nil {
				return nil, err
			}
		}
		findings = append(findings, s.finding(k, owners[s.inode]))
	}
	slices.SortStableFunc(findings, compareFindings)
	return slices.CompactFunc(findings, same), nil
}

// kind returns what the socket means for its port.
func (s socket) kind(listeners []socket) kind {
	switch {
	case s.state == stateListen || s.state == stateUnconnected:
		return server
	case s.state == stateBound:
		return bound
	case s.local == s.remote:
		return selfConnection
	case s.network == "tcp" && slices.ContainsFunc(listeners, s.isAcceptedBy):
		return accepted
	}
	return connection
}

// isAcceptedBy reports whether l listens where s is connected.
func (s socket) isAcceptedBy(l socket) bool {
	return l.local.Port() == s.local.Port() &&
		(l.local.Addr().IsUnspecified() || l.local.Addr() == s.local.Addr())
}

// kindOfHost returns the kind of a socket among all of the host, "" for one that is not
// printed.
func (s socket) kindOfHost(l limits) kind {
	switch k := s.kind(nil); {
	case k == selfConnection:
		return k
	case k == server && l.mayChoose(s.local.Port()):
		return serverAtRisk
	}
	return ""
}

func (s socket) finding(k kind, owners []process) finding {
	f := finding{
		Kind:      k,
		Network:   s.network,
		Local:     s.local,
		Remote:    s.remote,
		State:     s.state,
		Processes: []process{},
		Meaning:   k.meaning(s.state),
	}
	if s.left > 0 {
		f.SecondsLeft = int((s.left + time.Second - 1) / time.Second)
	}
	if s.inode != 0 {
		f.Processes = append(f.Processes, owners...)
		f.Unknown = len(owners) == 0
	}
	return f
}

// meaning explains the kind of a socket in a state.
func (k kind) meaning(state string) string {
	switch {
	case k == selfConnection && state == stateTimeWait:
		return "was connected to itself; no server can start on the port"
	case k == selfConnection:
		return "is connected to itself; no server can start on the port"
	case k == connection && state == stateTimeWait:
		return "an ordinary connection had the port"
	case k == connection:
		return "an ordinary connection has the port"
	case k == bound:
		return "a socket is bound to the port, and neither listens nor is connected"
	case k == server:
		return "a server has the port"
	case k == serverAtRisk:
		return "a server at risk, unless the kernel chose its port: " +
			"while it is down, an outgoing connection may have the port"
	}
	return "a connection of the server that listens on the port"
}

// blocks reports whether a server cannot have the port because of the socket.
func (f finding) blocks() bool { return f.Kind != serverAtRisk && f.Kind != accepted }

// A place is where a finding is. It does not change while a connection is closed, until
// TIME_WAIT.
type place struct {
	kind          kind
	network       string
	local, remote netip.AddrPort
	timeWait      bool
}

func (f finding) place() place {
	return place{f.Kind, f.Network, f.Local, f.Remote, f.State == stateTimeWait}
}

// same reports whether two findings are one: of the sockets that a process has at an
// address, one is enough.
func same(a, b finding) bool {
	return a.place() == b.place() && a.State == b.State && slices.Equal(a.Processes, b.Processes)
}

func compareFindings(a, b finding) int {
	return cmp.Or(
		cmp.Compare(a.Local.Port(), b.Local.Port()),
		cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)),
		cmp.Compare(a.Network, b.Network),
		a.Local.Compare(b.Local),
		a.Remote.Compare(b.Remote),
		cmp.Compare(a.State, b.State),
		slices.CompareFunc(a.Processes, b.Processes, compareProcesses),
	)
}

func compareProcesses(a, b process) int { return cmp.Compare(a.PID, b.PID) }
