package main

import (
	"context"
	"io"
	"time"
)

// watch looks for findings until the context ends, and prints the new ones. What has
// gone and comes again is new. The process does not matter: while a socket is closed, it
// has none.
func watch(ctx context.Context, o options, stdout io.Writer) (int, error) {
	ticker := time.NewTicker(o.every)
	defer ticker.Stop()
	status := statusNone
	known := make(map[place]bool)
	for {
		limits, err := readLimits()
		if err != nil {
			return statusError, err
		}
		findings, err := find(limits)
		if err != nil {
			return statusError, err
		}
		r := report{limits: limits, Ports: []verdict{}, Findings: []finding{}}
		now := make(map[place]bool)
		for _, f := range findings {
			now[f.place()] = true
			if !known[f.place()] {
				r.Findings = append(r.Findings, f)
			}
		}
		known = now
		if r.cure(); r.Found {
			status = statusFound
			if err := o.print(stdout, r); err != nil {
				return statusError, err
			}
		}
		select {
		case <-ctx.Done():
			return status, nil
		case <-ticker.C:
		}
	}
}
