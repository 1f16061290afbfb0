package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/safedial/safedial"
)

// A report is what portcheck prints.
type report struct {
	limits   limits
	Found    bool      `json:"at_risk"`
	Ports    []verdict `json:"ports"`            // of the ports that are arguments
	Findings []finding `json:"findings"`         // if there are no arguments
	Sysctl   string    `json:"sysctl,omitempty"` // what reserves the ports, as root, for the whole host
	Dialer   string    `json:"dialer,omitempty"` // what avoids them in a program that dials
}

// cure sets Found and the cures of what is found.
func (r *report) cure() {
	var ports []uint16
	for _, v := range r.Ports {
		if v.AtRisk {
			ports = append(ports, v.Port)
		}
	}
	for _, f := range r.Findings {
		ports = append(ports, f.Address.Port())
	}
	slices.Sort(ports)
	ports = slices.Compact(ports)
	r.Found = len(ports) > 0
	wanted := slices.Clone(r.limits.reserved)
	var avoid []string
	for _, port := range ports {
		if r.limits.mayChoose(port) {
			wanted = append(wanted, safedial.PortRange{Low: port, High: port})
			avoid = append(avoid, strconv.Itoa(int(port)))
		}
	}
	if !r.Found {
		return
	}
	r.Dialer = "d := safedial.Dialer{}" // the kernel did not choose the port: LocalAddr did
	if len(avoid) > 0 {
		r.Sysctl = "net.ipv4.ip_local_reserved_ports=" + list(merge(wanted))
		r.Dialer = "d := safedial.Dialer{AvoidPorts: safedial.Ports(" + strings.Join(avoid, ", ") + ")}"
	}
}

func (r report) printJSON(w io.Writer, indent bool) error {
	encoder := json.NewEncoder(w)
	if indent {
		encoder.SetIndent("", "  ")
	}
	return encoder.Encode(r.fields())
}

// fields are those of r's JSON form.
func (r report) fields() any {
	return struct {
		LocalPorts string `json:"ip_local_port_range"`
		Reserved   string `json:"ip_local_reserved_ports"`
		report
	}{r.limits.local.String(), list(r.limits.reserved), r}
}

func (r report) print(w io.Writer) error {
	text := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range r.Ports {
		risk := "safe"
		if v.AtRisk {
			risk = "at risk"
		}
		fmt.Fprintf(text, "%d\t%s\t%s\n", v.Port, risk, v.Reason)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(text, "%s\t%s\t%s\t%s\n", f.Network, f.Address, f.owner(), f.Kind.text(r.limits.local))
	}
	if len(r.Ports) == 0 && len(r.Findings) == 0 {
		fmt.Fprintf(text, "No socket is connected to itself, and no server has a port in the local port range %s.\n", r.limits.local)
	}
	if r.Found {
		fmt.Fprintln(text)
		fmt.Fprintf(text, "as root, for the whole host:\t%s\n", orNone(r.Sysctl))
		fmt.Fprintf(text, "in a program that dials, without root:\t%s\n", r.Dialer)
	}
	return text.Flush()
}

func orNone(sysctl string) string {
	if sysctl == "" {
		return "nothing to reserve: the kernel does not choose these ports"
	}
	return "sysctl " + sysctl
}

// owner says who has the socket.
func (f finding) owner() string {
	switch {
	case f.Process != nil:
		return fmt.Sprintf("%s (%d)", f.Process.Name, f.Process.PID)
	case f.Kind == timeWait:
		return "no process"
	}
	return "process unknown"
}

// text explains the kind.
func (k kind) text(local safedial.PortRange) string {
	switch k {
	case selfConnection:
		return "connected to itself"
	case timeWait:
		return "in TIME_WAIT after it was connected to itself: no server can start"
	case server:
		return fmt.Sprintf("a server in the local port range %s: another socket may take its port", local)
	}
	return string(k)
}
