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
		found, err := find(limits, nil)
		if err != nil {
			return statusError, err
		}
		recent := []finding{}
		now := make(map[place]bool)
		for _, f := range found {
			now[f.place()] = true
			if !known[f.place()] {
				recent = append(recent, f)
			}
		}
		known = now
		if len(recent) > 0 {
			status = statusFound
			if err := o.print(stdout, newReport(limits, nil, recent)); err != nil {
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
