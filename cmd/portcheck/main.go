// Command portcheck tells whether this host has sockets that are connected to
// themselves, and servers whose port the kernel may choose as the local port of an
// outgoing connection.
//
//	portcheck [-json] [-watch [-every 1s]]
//	portcheck [-json] port | host:port ...
//	portcheck [-json] -system
//
// Without arguments, it finds, in its network namespace:
//
//   - TCP and UDP sockets that are connected to themselves;
//   - ports in TIME_WAIT after such a connection, on which no server can start for a
//     minute;
//   - TCP and UDP servers whose port is in the local port range and not reserved.
//     Another socket may have such a port when the server starts again. A UDP socket
//     that is not connected counts as a server.
//
// It names the processes that have the sockets. Those of other users are known to
// root only. With -watch, it goes on until it is interrupted, and prints what is new.
//
// With ports as arguments, it says which of them the kernel may choose. With -system, it
// asks the system, by sockets, for the options that safedial uses, and prints which
// column of README's table "Promises" applies.
//
// The exit status is 0 if nothing is found, 1 if something is, and 2 on an error.
// Without arguments, portcheck needs Linux.
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

	"github.com/safedial/safedial"
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
		fmt.Fprint(stdout, usage)
		return statusNone
	}
	if err != nil {
		return fail(stderr, err)
	}
	status, err := o.check(ctx, stdout)
	if err != nil {
		return fail(stderr, err)
	}
	return status
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
	r := report{limits: limits, Ports: limits.verdicts(o.ports), Findings: []finding{}}
	if len(o.ports) == 0 {
		if r.Findings, err = find(limits); err != nil {
			return statusError, err
		}
	}
	r.cure()
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
	flags.BoolVar(&o.json, "json", false, "print JSON")
	flags.BoolVar(&o.watch, "watch", false, "go on until interrupted")
	flags.BoolVar(&o.system, "system", false, "print the options that the system has")
	flags.DurationVar(&o.every, "every", time.Second, "the time between two checks with -watch")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	var err error
	if o.ports, err = parsePorts(flags.Args()); err != nil {
		return o, err
	}
	if o.watch && len(o.ports) > 0 {
		return o, errors.New("-watch takes no ports")
	}
	if o.system && (o.watch || len(o.ports) > 0) {
		return o, errors.New("-system takes no ports, and no -watch")
	}
	if o.every <= 0 {
		return o, fmt.Errorf("-every %s is not positive", o.every)
	}
	return o, nil
}

func fail(stderr io.Writer, err error) int {
	fmt.Fprintln(stderr, "portcheck:", err)
	return statusError
}

// limits are the ports that the kernel may choose from.
type limits struct {
	local    safedial.PortRange
	reserved []safedial.PortRange
}

func readLimits() (limits, error) {
	local, err := safedial.LocalPortRange()
	if err != nil {
		return limits{}, err
	}
	reserved, err := safedial.ReservedPorts()
	return limits{local, reserved}, err
}
