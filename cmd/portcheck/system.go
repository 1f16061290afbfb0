package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// A feature is something that safedial uses of a system.
type feature struct {
	Name string `json:"name"`
	Has  bool   `json:"has"`
	Why  string `json:"why,omitempty"` // why the system does not have it
}

// featureIf returns a feature that the system has if err is nil.
func featureIf(name string, err error) feature {
	if err != nil {
		return feature{name, false, err.Error()}
	}
	return feature{name, true, ""}
}

// A promise says which promises of README's table hold for a kind of dials.
type promise struct {
	Dials string `json:"dials"`
	Kept  string `json:"kept"`
}

// A systemReport is what portcheck prints with -system.
type systemReport struct {
	Features []feature `json:"features"`
	Promises []promise `json:"promises"`
}

func (o options) printSystem(w io.Writer, r systemReport) error {
	if o.json {
		return printJSON(w, r, true)
	}
	return r.print(w)
}

func (r systemReport) print(w io.Writer) error {
	text := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range r.Features {
		answer := "yes"
		if !f.Has {
			answer = "no: " + f.Why
		}
		fmt.Fprintf(text, "%s\t%s\n", f.Name, answer)
	}
	if len(r.Features) > 0 {
		fmt.Fprintln(text)
	}
	fmt.Fprintln(text, "Of README's table \"Promises\", these hold:")
	for _, p := range r.Promises {
		fmt.Fprintf(text, "%s\t%s\n", p.Dials, p.Kept)
	}
	return text.Flush()
}
