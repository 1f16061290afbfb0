// Command waitport waits until a server listens on a TCP address.
//
//	waitport [-timeout 30s] host:port
//
// It exits with status 0 when the server is up, 1 if it is not in time, with the
// last error, and 2 if the address is invalid. A script that dials with net.Dialer
// can mistake its own socket for the server, or prevent the server from starting.
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

// interval is how long to wait between two attempts.
const interval = 20 * time.Millisecond

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("waitport", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	timeout := flags.Duration("timeout", 30*time.Second, "how long to wait")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(stdout, "usage: waitport [-timeout 30s] host:port")
		return statusUp
	} else if err != nil {
		return fail(stderr, err)
	}
	address, err := parseAddress(flags.Args())
	if err != nil {
		return fail(stderr, err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	w := waiter{dial: new(safedial.Dialer).DialContext, line: progress.New()}
	err = w.wait(ctx, address)
	summary := fmt.Sprintf("after %s and %d attempts", w.elapsed().Round(time.Millisecond), w.attempts)
	if err != nil {
		fmt.Fprintf(stderr, "waitport: %s is not up %s: %v\n", address, summary, err)
		return statusTimeout
	}
	fmt.Fprintf(stdout, "%s is up %s\n", address, summary)
	return statusUp
}

func fail(stderr io.Writer, err error) int {
	fmt.Fprintln(stderr, "waitport:", err)
	return statusError
}

// parseAddress refuses what no waiting could mend.
func parseAddress(args []string) (string, error) {
	if len(args) != 1 {
		return "", errors.New("expected one address, as in: waitport -timeout 30s 127.0.0.1:40000")
	}
	_, name, err := net.SplitHostPort(args[0])
	if err != nil {
		return "", err
	}
	port, err := net.DefaultResolver.LookupPort(context.Background(), "tcp", name)
	if err != nil {
		return "", err
	}
	if port == 0 {
		return "", fmt.Errorf("no server can have port %q", name)
	}
	return args[0], nil
}

// A waiter dials until somebody answers.
type waiter struct {
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	line     *progress.Line
	start    time.Time
	attempts int
}

func (w *waiter) elapsed() time.Duration { return time.Since(w.start) }

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
			return fmt.Sprintf("waiting for %s: %s, %d attempts: %v", address, w.elapsed().Round(100*time.Millisecond), w.attempts, err)
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
