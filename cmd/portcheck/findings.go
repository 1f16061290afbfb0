package main

import (
	"cmp"
	"net/netip"
	"slices"
)

// A kind says what a finding is.
type kind string

const (
	selfConnection kind = "self-connection"
	timeWait       kind = "time-wait"
	server         kind = "server"
)

// A finding is a socket that is connected to itself, or was, or a server at risk.
type finding struct {
	Kind    kind           `json:"kind"`
	Network string         `json:"network"` // "tcp" or "udp"
	Address netip.AddrPort `json:"address"`
	Process *process       `json:"process,omitempty"` // nil if there is none, or if it is not known
}

// A process is one that has a socket.
type process struct {
	PID  int    `json:"pid"`
	Name string `json:"name"`
}

// A state is that of a socket.
type state int

const (
	other state = iota
	connected
	listening // a UDP socket that is not connected too
	waiting   // TIME_WAIT
)

// A socket is one of the network namespace.
type socket struct {
	network       string
	local, remote netip.AddrPort
	state         state
	inode         uint64 // 0 if no process has it
}

// find returns what is found in the network namespace.
func find(l limits) ([]finding, error) {
	sockets, err := sockets()
	if err != nil {
		return nil, err
	}
	var owners map[uint64]process
	findings := []finding{}
	for _, s := range sockets {
		kind, ok := s.kind(l)
		if !ok {
			continue
		}
		if owners == nil { // it takes a look at every process: only if there is something to tell
			if owners, err = socketOwners(); err != nil {
				return nil, err
			}
		}
		f := finding{Kind: kind, Network: s.network, Address: s.local}
		if p, ok := owners[s.inode]; ok && s.inode != 0 {
			f.Process = &p
		}
		findings = append(findings, f)
	}
	slices.SortStableFunc(findings, compareFindings)
	return slices.CompactFunc(findings, same), nil
}

// kind returns what a socket is found to be. It is not ok if it is nothing.
func (s socket) kind(l limits) (_ kind, ok bool) {
	self := s.local == s.remote && s.local.Port() != 0
	switch {
	case self && s.state == waiting:
		return timeWait, true
	case self && s.state == connected:
		return selfConnection, true
	case s.state == listening && l.mayChoose(s.local.Port()):
		return server, true
	}
	return "", false
}

// A place is where a finding is.
type place struct {
	kind    kind
	network string
	address netip.AddrPort
}

func (f finding) place() place { return place{f.Kind, f.Network, f.Address} }

// pid returns the process's, 0 if there is none or if it is not known.
func (f finding) pid() int {
	if f.Process == nil {
		return 0
	}
	return f.Process.PID
}

// same reports whether two findings are one: of the sockets that a process has on an
// address, one is enough.
func same(a, b finding) bool { return a.place() == b.place() && a.pid() == b.pid() }

// kinds are in the order in which they are printed.
var kinds = []kind{selfConnection, timeWait, server}

func compareFindings(a, b finding) int {
	return cmp.Or(
		cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)),
		cmp.Compare(a.Network, b.Network),
		cmp.Compare(a.Address.Port(), b.Address.Port()),
		a.Address.Compare(b.Address),
		cmp.Compare(a.pid(), b.pid()),
	)
}
