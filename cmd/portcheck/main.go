// Command portcheck tells why a server can't listen on a port, and which servers it may
// happen to: it lists the sockets that have a port, says what frees it now, and what
// keeps it free.
//
//	portcheck [-json] [-watch [-every 1s]]
//	portcheck [-json] port | host:port ...
//	portcheck [-json] -system
//
// Without an installation, it runs by:
//
//	go run github.com/safedial/safedial/cmd/portcheck@latest
//
// With ports, it lists every TCP and UDP socket that has one of them, with its state,
// its processes and the rest of TIME_WAIT. It says whether the kernel may choose the port,
// and whether a TCP server can listen on it now. To find that out, it binds the port for
// an instant. Sockets that are bound only are listed from Linux 6.8. Of host:port, only
// the port matters.
//
// Without ports, it lists the sockets that are connected to themselves or were until
// TIME_WAIT, and the servers at risk: those whose port is in the local port range and not
// reserved. A UDP socket that is not connected counts as a server.
//
// It sees the network namespace that it runs in, and the processes of other users only
// if it runs as root. It needs Linux, except for -system.
//
// Its flags are:
//
//	-json    print JSON, with the same facts
//	-watch   go on until interrupted, and print what is new
//	-every   the time between two checks with -watch (1s)
//	-system  print the socket options that this kernel has, and which of the
//	         promises in safedial's README hold
//
// The exit status is 0 if nothing is found and no port is at risk, 1 if something is, and
// 2 if portcheck fails or is called with a wrong argument.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	statusNone = iota
	statusFound
	statusError
)

const usage = `usage: portcheck [-json] [-watch [-every 1s]]
       portcheck [-json] port | host:port ...
       portcheck [-json] -system
`

const help = usage + `
Without an installation, it runs by:

  go run github.com/safedial/safedial/cmd/portcheck@latest

portcheck tells why a server can't listen on a port, and which servers it may
happen to: it lists the sockets that have a port, says what frees it now, and
what keeps it free.

With ports, it lists every TCP and UDP socket that has one of them, with its
state, its processes and the rest of TIME_WAIT. It says whether the kernel may
choose the port, and whether a TCP server can listen on it now. To find that
out, it binds the port for an instant. Sockets that are bound only are listed
from Linux 6.8. Of host:port, only the port matters.

Without ports, it lists the sockets that are connected to themselves or were
until TIME_WAIT, and the servers at risk: those whose port is in the local port
range and not reserved. A UDP socket that is not connected counts as a server.

It sees the network namespace that it runs in, and the processes of other users
only if it runs as root. It needs Linux, except for -system.

  -json    print JSON, with the same facts
  -watch   go on until interrupted, and print what is new
  -every   the time between two checks with -watch (1s)
  -system  print the socket options that this kernel has, and which of the
           promises in safedial's README hold

The exit status is 0 if nothing is found and no port is at risk, 1 if something
is, and 2 if portcheck fails or is called with a wrong argument.
`

// errNeedsLinux is the error of other systems.
var errNeedsLinux = errors.New("needs Linux")

// A usageError is a wrong argument.
type usageError struct{ error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// options are what the command line says.
type options struct {
	json, watch, system bool

	every time.Duration
	ports []uint16
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, help)
		return statusNone
	}
	status := statusError
	if err == nil {
		status, err = o.check(ctx, stdout)
	}
	if err == nil {
		return status
	}
	fmt.Fprintln(stderr, "portcheck:", err)
	if errors.As(err, new(usageError)) {
		fmt.Fprint(stderr, usage)
	}
	return statusError
}

func (o options) check(ctx context.Context, stdout io.Writer) (int, error) {
	if o.system {
		return statusNone, o.printSystem(stdout, askSystem())
	}
	if o.watch {
		return watch(ctx, o, stdout)
	}
	limits, err := readLimits()
	if err != nil {
		return statusError, err
	}
	found, err := find(limits, o.ports)
	if err != nil {
		return statusError, err
	}
	r := newReport(limits, o.ports, found)
	if err := o.print(stdout, r); err != nil {
		return statusError, err
	}
	if r.Found {
		return statusFound, nil
	}
	return statusNone, nil
}

func (o options) print(w io.Writer, r report) error {
	if o.json {
		return r.printJSON(w, !o.watch) // with -watch, a line for each
	}
	return r.print(w)
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("portcheck", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.BoolVar(&o.json, "json", false, "")
	flags.BoolVar(&o.watch, "watch", false, "")
	flags.BoolVar(&o.system, "system", false, "")
	flags.DurationVar(&o.every, "every", time.Second, "")
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return o, err
	}
	if err == nil {
		o.ports, err = parsePorts(flags.Args())
	}
	if err == nil {
		err = o.conflict()
	}
	if err != nil {
		return o, usageError{err}
	}
	return o, nil
}

// conflict returns an error if options do not fit together.
func (o options) conflict() error {
	switch {
	case o.system && (o.watch || len(o.ports) > 0):
		return errors.New("-system takes no ports, and no -watch")
	case o.watch && len(o.ports) > 0:
		return errors.New("-watch takes no ports")
	case o.every <= 0:
		return fmt.Errorf("-every %s is not positive", o.every)
	}
	return nil
}
