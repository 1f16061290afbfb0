// Package progress tells on standard error how far a command is.
package progress

import (
	"fmt"
	"os"
	"time"
)

// A Line is a line that is rewritten on a terminal, and printed anew elsewhere,
// less often.
type Line struct {
	terminal bool
	next     time.Time
}

// New returns a Line that tells nothing for a moment.
func New() *Line {
	info, err := os.Stderr.Stat()
	l := &Line{terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
	l.next = time.Now().Add(l.interval())
	return l
}

func (l *Line) interval() time.Duration {
	if l.terminal {
		return 100 * time.Millisecond
	}
	return 2 * time.Second
}

// Show prints what text returns, unless it has just done so.
func (l *Line) Show(text func() string) {
	now := time.Now()
	if now.Before(l.next) {
		return
	}
	l.next = now.Add(l.interval())
	l.print(text())
	if !l.terminal {
		fmt.Fprintln(os.Stderr)
	}
}

// Done prints text for the last time.
func (l *Line) Done(text string) {
	l.print(text)
	fmt.Fprintln(os.Stderr)
}

func (l *Line) print(text string) {
	if l.terminal {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
	fmt.Fprint(os.Stderr, text)
}
