// Package progress tells how far a command is.
package progress

import (
	"fmt"
	"io"
	"os"
	"time"
)

// A Line is a line that is rewritten on a terminal, and printed anew elsewhere,
// less often.
type Line struct {
	out      io.Writer
	terminal bool
	open     bool // whether the cursor is in the line
	next     time.Time
}

// New returns a Line on standard error that tells nothing for a moment.
func New() *Line { return On(os.Stderr) }

// On is New for another writer.
func On(w io.Writer) *Line {
	l := &Line{out: w}
	if file, ok := w.(*os.File); ok {
		info, err := file.Stat()
		l.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
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
	if l.open = l.terminal; !l.open {
		fmt.Fprintln(l.out)
	}
}

// Done prints text for the last time.
func (l *Line) Done(text string) {
	l.print(text)
	l.open = false
	fmt.Fprintln(l.out)
}

// Clear erases the line from a terminal, where something else is printed next.
func (l *Line) Clear() {
	if l.open {
		l.print("")
		l.open = false
	}
}

func (l *Line) print(text string) {
	if l.terminal {
		fmt.Fprint(l.out, "\r\x1b[K")
	}
	fmt.Fprint(l.out, text)
}
