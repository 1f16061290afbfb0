// Command portcheck tells whether the kernel may pick a port as the local port of
// an outgoing connection, so that a server should not listen on it.
//
//	portcheck [-json] [port | host:port ...]
//
// Without arguments it checks every TCP port of this machine that is listened on.
// It exits with status 0 if no port is at risk, 1 if one is, and 2 if it cannot
// tell.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/safedial/safedial"
)

const (
	statusSafe = iota
	statusRisk
	statusError
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("portcheck", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	asJSON := flags.Bool("json", false, "print JSON")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(stdout, "usage: portcheck [-json] [port | host:port ...]")
		return statusSafe
	} else if err != nil {
		return fail(stderr, err)
	}
	ports, err := parsePorts(flags.Args())
	if err != nil {
		return fail(stderr, err)
	}
	if flags.NArg() == 0 {
		if ports, err = listening(); err != nil {
			return fail(stderr, err)
		}
	}
	local, err := safedial.LocalPortRange()
	if err != nil {
		return fail(stderr, err)
	}
	reserved, err := safedial.ReservedPorts()
	if err != nil {
		return fail(stderr, err)
	}
	r := check(local, reserved, ports)
	if *asJSON {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(r)
	} else {
		err = r.print(stdout)
	}
	if err != nil {
		return fail(stderr, err)
	}
	if r.AtRisk {
		return statusRisk
	}
	return statusSafe
}

func fail(stderr io.Writer, err error) int {
	fmt.Fprintln(stderr, "portcheck:", err)
	return statusError
}

// parsePorts reads "40000", "postgresql" and "127.0.0.1:40000".
func parsePorts(args []string) ([]uint16, error) {
	var ports []uint16
	for _, arg := range args {
		name := arg
		if strings.Contains(arg, ":") {
			var err error
			if _, name, err = net.SplitHostPort(arg); err != nil {
				return nil, err
			}
		}
		port, err := net.DefaultResolver.LookupPort(context.Background(), "tcp", name)
		if err != nil {
			return nil, fmt.Errorf("%q is not a port: %w", arg, err)
		}
		if port == 0 {
			return nil, fmt.Errorf("%q is not a port that a server can have", arg)
		}
		ports = append(ports, uint16(port))
	}
	return ports, nil
}

// A report is what there is to say of some ports.
type report struct {
	AtRisk    bool     `json:"at_risk"`
	LocalPort string   `json:"ip_local_port_range"`
	Reserved  string   `json:"ip_local_reserved_ports"`
	Ports     []result `json:"ports"`
	Sysctl    string   `json:"sysctl,omitempty"` // what would reserve those at risk
}

type result struct {
	Port   uint16 `json:"port"`
	AtRisk bool   `json:"at_risk"`
	Reason string `json:"reason"`
}

func check(local safedial.PortRange, reserved []safedial.PortRange, ports []uint16) report {
	r := report{LocalPort: local.String(), Reserved: list(reserved), Ports: []result{}}
	wanted := slices.Clone(reserved)
	for _, port := range ports {
		one := result{Port: port}
		switch {
		case !local.Contains(port):
			one.Reason = fmt.Sprintf("outside the local port range %s", local)
		case slices.ContainsFunc(reserved, func(r safedial.PortRange) bool { return r.Contains(port) }):
			one.Reason = fmt.Sprintf("in the local port range %s, but reserved", local)
		default:
			one.AtRisk = true
			one.Reason = fmt.Sprintf("in the local port range %s: any outgoing connection may have it", local)
			wanted = append(wanted, safedial.PortRange{Low: port, High: port})
			r.AtRisk = true
		}
		r.Ports = append(r.Ports, one)
	}
	if r.AtRisk {
		r.Sysctl = "net.ipv4.ip_local_reserved_ports=" + list(merge(wanted))
	}
	return r
}

// merge sorts the ranges and joins those that touch.
func merge(ranges []safedial.PortRange) []safedial.PortRange {
	slices.SortFunc(ranges, func(a, b safedial.PortRange) int { return cmp.Compare(a.Low, b.Low) })
	var merged []safedial.PortRange
	for _, r := range ranges {
		if n := len(merged); n > 0 && int(r.Low) <= int(merged[n-1].High)+1 {
			merged[n-1].High = max(merged[n-1].High, r.High)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

func list(ranges []safedial.PortRange) string {
	var items []string
	for _, r := range ranges {
		items = append(items, r.String())
	}
	return strings.Join(items, ",")
}

func (r report) print(w io.Writer) error {
	var text strings.Builder
	for _, one := range r.Ports {
		verdict := "safe"
		if one.AtRisk {
			verdict = "at risk"
		}
		fmt.Fprintf(&text, "%5d  %-7s  %s\n", one.Port, verdict, one.Reason)
	}
	if len(r.Ports) == 0 {
		text.WriteString("No TCP port is listened on.\n")
	}
	if r.AtRisk {
		fmt.Fprintf(&text, "\nListen on a port outside %s, or keep the kernel from these, as root:\n\n\tsysctl %s\n", r.LocalPort, r.Sysctl)
	}
	_, err := io.WriteString(w, text.String())
	return err
}
