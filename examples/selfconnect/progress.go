package main

import (
	"fmt"
	"os"
	"time"
)

// progress tells on standard error how far a run is: on a terminal in a line that
// it rewrites, elsewhere in plain lines, fewer of them.
type progress struct {
	name     string
	terminal bool
	next     time.Time
}

func newProgress(name string) *progress {
	info, err := os.Stderr.Stat()
	p := &progress{name: name, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
	p.next = time.Now().Add(p.interval())
	return p
}

func (p *progress) interval() time.Duration {
	if p.terminal {
		return 100 * time.Millisecond
	}
	return 2 * time.Second
}

// show tells about r, unless it has just done so.
func (p *progress) show(r run) {
	if now := time.Now(); now.After(p.next) {
		p.next = now.Add(p.interval())
		p.print(r)
		if !p.terminal {
			fmt.Fprintln(os.Stderr)
		}
	}
}

// done tells about r for the last time.
func (p *progress) done(r run) {
	p.print(r)
	fmt.Fprintln(os.Stderr)
}

func (p *progress) print(r run) {
	if p.terminal {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
	fmt.Fprintf(os.Stderr, "%s: %d dials, %d self-connections", p.name, r.dials, r.self)
}
