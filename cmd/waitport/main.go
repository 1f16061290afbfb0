// Command waitport waits until servers listen on TCP addresses.
//
//	waitport [-timeout 30s] host:port ...
//
// Without an installation, it runs by:
//
//	go run github.com/safedial/safedial/cmd/waitport@latest localhost:5432
//
// A host is an IP address or a name, and a port a number or the name of a service. A name
// that has several addresses is up when one of them is, and one that does not resolve yet
// is waited for. Of several arguments, all must be up.
//
// waitport dials each 20 ms after the last attempt failed, and never connects to itself:
// a script that dials with other means can mistake its own socket for the server, or
// prevent the server from starting.
//
// Its flag is:
//
//	-timeout  how long to wait at most for all of them (30s); 0 is no limit
//
// The exit status is 0 if all are up, 1 if one is not in time, with its last error, and 2
// if waitport is called with a wrong argument.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/progress"
)

const (
	statusUp = iota
	statusTimeout
	statusError
)

const usage = "usage: waitport [-timeout 30s] host:port ...\n"

const help = usage + `
Without an installation, it runs by:

  go run github.com/safedial/safedial/cmd/waitport@latest localhost:5432

waitport waits until servers listen on TCP addresses.

A host is an IP address or a name, and a port a number or the name of a service.
A name that has several addresses is up when one of them is, and one that does
not resolve yet is waited for. Of several arguments, all must be up.

waitport dials each 20 ms after the last attempt failed, and never connects to
itself: a script that dials with other means can mistake its own socket for the
server, or prevent the server from starting.

  -timeout  how long to wait at most for all of them (30s); 0 is no limit

The exit status is 0 if all are up, 1 if one is not in time, with its last
error, and 2 if waitport is called with a wrong argument.
`

const (
	// interval is how long to wait between two attempts.
	interval = 20 * time.Millisecond
	// attempt is how long one may take: if packets are lost, a new one is faster than
	// TCP's retransmissions.
	attempt = 5 * time.Second
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	addresses, timeout, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, help)
		return statusUp
	}
	if err != nil {
		fmt.Fprintf(stderr, "waitport: %v\n%s", err, usage)
		return statusError
	}

	ctx := context.Background()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	d := safedial.Dialer{Timeout: attempt}
	for _, address := range addresses {
		w := waiter{dial: d.DialContext, line: progress.On(stderr)}
		err := w.wait(ctx, address)
		w.line.Clear()
		if err != nil {
			fmt.Fprintf(stderr, "waitport: %s is not up %s: %v\n", address, w.summary(), err)
			return statusTimeout
		}
		fmt.Fprintf(stdout, "%s is up %s\n", address, w.summary())
	}
	return statusUp
}

func parse(args []string) (addresses []string, timeout time.Duration, err error) {
	flags := flag.NewFlagSet("waitport", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.DurationVar(&timeout, "timeout", 30*time.Second, "")
	if err := flags.Parse(args); err != nil {
		return nil, 0, err
	}
	if timeout < 0 {
		return nil, 0, fmt.Errorf("-timeout %s is negative", timeout)
	}
	if flags.NArg() == 0 {
		return nil, 0, errors.New("expected an address, as in: waitport localhost:5432")
	}
	for _, address := range flags.Args() {
		if err := check(address); err != nil {
			return nil, 0, err
		}
	}
	return flags.Args(), timeout, nil
}

// check refuses an address that no waiting could mend.
func check(address string) error {
	_, name, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	port, err := net.DefaultResolver.LookupPort(context.Background(), "tcp", name)
	if err != nil {
		return fmt.Errorf("address %s: %w", address, err)
	}
	if port == 0 {
		return fmt.Errorf("address %s: no server can have port %q", address, name)
	}
	return nil
}

// A waiter dials until somebody answers.
type waiter struct {
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	line     *progress.Line
	start    time.Time
	attempts int
}

func (w *waiter) elapsed() time.Duration { return time.Since(w.start) }

func (w *waiter) summary() string {
	noun := "attempts"
	if w.attempts == 1 {
		noun = "attempt"
	}
	return fmt.Sprintf("after %s and %d %s", w.elapsed().Round(time.Millisecond), w.attempts, noun)
}

// wait returns nil when a dial succeeds, and the last error of a dial if none has
// when the context ends.
func (w *waiter) wait(ctx context.Context, address string) error {
	w.start = time.Now()
	var last error
	for {
		w.attempts++
		conn, err := w.dial(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		if over(ctx) {
			if last == nil {
				last = err
			}
			return last
		}
		last = err
		w.line.Show(func() string {
			elapsed := w.elapsed().Round(100 * time.Millisecond)
			return fmt.Sprintf("waiting for %s: %s, %d attempts: %v", address, elapsed, w.attempts, err)
		})
		select {
		case <-ctx.Done():
		case <-time.After(interval):
		}
	}
}

// over reports whether the context has ended. A dial may notice its deadline before
// the context does.
func over(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}
