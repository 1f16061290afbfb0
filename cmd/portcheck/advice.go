package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/safedial/safedial"
)

// A step is something to do about what is found.
type step struct {
	Do      string `json:"do"`
	Command string `json:"command,omitempty"`
}

// seeAll is what to do if the process of a socket is not known.
const seeAll = "run portcheck as root, outside of a container, to see the processes of others"

// advise sets what frees the ports now, and what keeps them free.
func (r *report) advise() {
	r.Now, r.ForGood = []step{}, []step{}
	var blocking []finding
	for _, f := range r.Sockets {
		if f.blocks() && !(f.Network == "tcp" && r.canBind(f.Local.Port())) {
			blocking = append(blocking, f)
		}
	}
	if len(blocking) > 0 {
		r.Now = now(blocking)
	}
	if slices.ContainsFunc(r.Sockets, func(f finding) bool { return f.Unknown }) {
		r.Now = append(r.Now, step{Do: seeAll})
	}
	ports, wrong := r.endangered()
	if len(ports) > 0 || wrong {
		r.ForGood = r.limits.forGood(ports)
	}
}

// canBind reports whether a TCP server has been able to bind the port.
func (r *report) canBind(port uint16) bool {
	return slices.ContainsFunc(r.Ports, func(v verdict) bool {
		return v.Port == port && v.Bind == bindOK
	})
}

// endangered returns the ports that the kernel may choose, ascending, and whether there
// are sockets that a client should not have.
func (r *report) endangered() (ports []uint16, wrong bool) {
	for _, v := range r.Ports {
		if v.AtRisk {
			ports = append(ports, v.Port)
		}
	}
	for _, f := range r.Sockets {
		wrong = wrong || f.Kind == selfConnection
		if port := f.Local.Port(); r.limits.mayChoose(port) {
			ports = append(ports, port)
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports), wrong
}

// now returns what frees the ports of the sockets, each step on its own.
func now(blocking []finding) []step {
	var steps []step
	commands := closing(blocking)
	if names, pids := processesOf(blocking); len(pids) > 0 {
		do := "end " + strings.Join(names, ", ")
		if len(commands) > 0 {
			do += "; the connection can stay in TIME_WAIT for a minute"
		}
		steps = append(steps, step{do, "kill " + strings.Join(pids, " ")})
	}
	for _, command := range commands {
		do := "close the connection, as root (in TIME_WAIT: from Linux 6.0)"
		steps = append(steps, step{do, command})
	}
	if seconds, all := timeLeft(blocking); all {
		steps = append(steps, step{Do: fmt.Sprintf("wait about %d s", seconds)})
	}
	return steps
}

// processesOf returns the processes that have the sockets.
func processesOf(findings []finding) (names, pids []string) {
	for _, f := range findings {
		for _, p := range f.Processes {
			if pid := strconv.Itoa(p.PID); !slices.Contains(pids, pid) {
				names, pids = append(names, p.String()), append(pids, pid)
			}
		}
	}
	return names, pids
}

// closing returns commands that close the TCP connections. None closes a server's socket.
func closing(blocking []finding) (commands []string) {
	listens := make(map[uint16]bool)
	for _, f := range blocking {
		listens[f.Local.Port()] = listens[f.Local.Port()] || f.Network == "tcp" && f.Kind == server
	}
	for _, f := range blocking {
		port := f.Local.Port()
		filter := fmt.Sprintf("sport = :%d", port)
		switch {
		case f.Network != "tcp", f.Kind == bound, f.Kind == server:
			continue
		case f.Kind == selfConnection:
			filter += fmt.Sprintf(" and dport = :%d", port)
		case listens[port]:
			continue
		}
		command := "ss -K -tan '" + filter + "'"
		if !slices.Contains(commands, command) {
			commands = append(commands, command)
		}
	}
	return commands
}

// timeLeft returns how long the kernel keeps the sockets, if it does so for all of them.
func timeLeft(findings []finding) (seconds int, all bool) {
	for _, f := range findings {
		if f.SecondsLeft == 0 {
			return 0, false
		}
		seconds = max(seconds, f.SecondsLeft)
	}
	return seconds, true
}

// forGood returns what keeps the ports free for servers, each step on its own.
func (l limits) forGood(ports []uint16) []step {
	const client = "dial with github.com/safedial/safedial in the programs that connect"
	if len(ports) == 0 { // the kernel did not choose the port: LocalAddr did
		return []step{{client, "d := safedial.Dialer{}"}}
	}
	var avoid []string
	for _, port := range ports {
		avoid = append(avoid, strconv.Itoa(int(port)))
	}
	outside := fmt.Sprintf("give the server a port outside of the local port range %s", l.local)
	steps := []step{{Do: outside}}
	steps = append(steps, l.reserving(ports)...)
	dialer := "d := safedial.Dialer{AvoidPorts: safedial.Ports(" + strings.Join(avoid, ", ") + ")}"
	return append(steps, step{client, dialer})
}

// reserving returns how to reserve the ports. A sysctl replaces the list, so the list has
// the ports that are reserved already.
func (l limits) reserving(ports []uint16) []step {
	if l.reservedErr != nil {
		return []step{{Do: "reserve the port, with those that are reserved already: " +
			"they can't be read, and sysctl replaces the list: " + l.reservedErr.Error()}}
	}
	const name = "net.ipv4.ip_local_reserved_ports"
	value := list(merge(slices.Concat(l.reserved, safedial.Ports(ports...))))
	sysctl := name + "=" + value
	return []step{
		{"reserve the port until the next boot, as root", "sysctl -w " + sysctl},
		{"reserve it after each boot, by a line in /etc/sysctl.d/60-reserved-ports.conf", sysctl},
		{
			"reserve it in a container, which has a list of its own (not with --network host)",
			"docker run --sysctl " + sysctl,
		},
		{
			"reserve it in a Kubernetes pod's securityContext (safe from 1.27, not with hostNetwork)",
			fmt.Sprintf("sysctls: [{name: %s, value: %q}]", name, value),
		},
	}
}
