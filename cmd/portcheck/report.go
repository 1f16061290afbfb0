package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// A report is what portcheck prints.
type report struct {
	limits  limits
	Found   bool      `json:"found"`
	Ports   []verdict `json:"ports"` // of the ports that are arguments
	Sockets []finding `json:"sockets"`
	Now     []step    `json:"now"`
	ForGood []step    `json:"for_good"`
}

// newReport returns the report of what is found.
func newReport(l limits, ports []uint16, found []finding) report {
	r := report{limits: l, Ports: l.verdicts(ports), Sockets: found}
	atRisk := func(v verdict) bool { return v.AtRisk }
	r.Found = len(found) > 0 || slices.ContainsFunc(r.Ports, atRisk)
	r.advise()
	return r
}

func (r report) printJSON(w io.Writer, indent bool) error {
	reserved := list(r.limits.reserved)
	fields := struct {
		LocalPorts    string  `json:"ip_local_port_range"`
		Reserved      *string `json:"ip_local_reserved_ports"` // null if it can't be read
		ReservedError string  `json:"ip_local_reserved_ports_error,omitempty"`
		report
	}{LocalPorts: r.limits.local.String(), Reserved: &reserved, report: r}
	if err := r.limits.reservedErr; err != nil {
		fields.Reserved, fields.ReservedError = nil, err.Error()
	}
	return printJSON(w, fields, indent)
}

// printJSON prints JSON of ASCII characters. encoding/json leaves others as they are, of
// which some control a terminal.
func printJSON(w io.Writer, value any, indent bool) error {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if indent {
		encoder.SetIndent("", "  ")
	}
	if err := encoder.Encode(value); err != nil {
		return err
	}
	_, err := io.WriteString(w, ascii(text.String()))
	return err
}

// ascii escapes all characters of JSON that are not printable ASCII.
func ascii(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r < utf8.RuneSelf && r != 0x7f {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

func (r report) print(w io.Writer) error {
	var b strings.Builder
	for _, v := range r.Ports {
		fmt.Fprintln(&b, v)
	}
	for _, f := range r.Sockets {
		fmt.Fprintln(&b, f)
	}
	for _, v := range r.Ports {
		if !slices.ContainsFunc(r.Sockets, func(f finding) bool { return f.Local.Port() == v.Port }) {
			fmt.Fprintf(&b, "no socket has port %d\n", v.Port)
		}
	}
	if len(r.Ports) == 0 && len(r.Sockets) == 0 {
		fmt.Fprintf(&b, "No socket is connected to itself, and no server has a port "+
			"in the local port range %s that is not reserved.\n", r.limits.local)
	}
	printSteps(&b, "Now, to free the port, one of:", r.Now)
	printSteps(&b, "For good, one of:", r.ForGood)
	_, err := io.WriteString(w, b.String())
	return err
}

func printSteps(b *strings.Builder, heading string, steps []step) {
	if len(steps) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", heading)
	for _, s := range steps {
		fmt.Fprintf(b, "- %s\n", s.Do)
		if s.Command != "" {
			fmt.Fprintf(b, "    %s\n", s.Command)
		}
	}
}

// String returns the line of a finding.
func (f finding) String() string {
	text := f.Network + " " + f.Local.String()
	if f.Remote.IsValid() {
		text += " → " + f.Remote.String()
	}
	text += " " + f.State
	if f.SecondsLeft > 0 {
		text += fmt.Sprintf(" for %d s", f.SecondsLeft)
	}
	return text + " " + f.owner() + ": " + f.Meaning
}

// owner says who has the socket.
func (f finding) owner() string {
	var names []string
	for _, p := range f.Processes {
		names = append(names, p.String())
	}
	switch {
	case len(names) > 0:
		return strings.Join(names, ", ")
	case f.Unknown:
		return "(process unknown)"
	}
	return "(no process)"
}

// String returns the process's name and number. A program chooses its name, so one with
// characters that would do something to a terminal, or with spaces, is quoted.
func (p process) String() string {
	name := strconv.Quote(p.Name)
	if p.Name != "" && name == `"`+p.Name+`"` && !strings.ContainsAny(p.Name, " ():,") {
		name = p.Name
	}
	return fmt.Sprintf("%s (%d)", name, p.PID)
}
