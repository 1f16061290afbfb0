// Command selfconnect shows on this machine what a dial of a port on which nothing
// listens can do. It dials one with net.Dialer until the kernel connects the socket to
// itself, tries to start a server there, and does the same with safedial.
//
//	selfconnect
//
// On Linux it does so in a network namespace of its own, where the kernel has ten local
// ports to choose from, and is done at once. Where the system refuses that, or has no
// namespaces, it dials from the system's local port range, which can take seconds.
//
// The exit status is 0 if safedial keeps its promise, 1 if it does not, and 2 if
// selfconnect cannot run or is called with a wrong argument.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/safedial/safedial"
)

const (
	statusKept = iota
	statusBroken
	statusError
)

const usage = "usage: selfconnect\n"

const help = usage + `
selfconnect shows on this machine what a dial of a port on which nothing listens
can do. It dials one with net.Dialer until the kernel connects the socket to
itself, tries to start a server there, and does the same with safedial.

On Linux it does so in a network namespace of its own, where the kernel has ten
local ports to choose from, and is done at once. Where the system refuses that,
or has no namespaces, it dials from the system's local port range, which can
take seconds.

The exit status is 0 if safedial keeps its promise, 1 if it does not, and 2 if
selfconnect cannot run or is called with a wrong argument.
`

// namespacePorts are the local ports in the namespace, whose first is even: from an even
// one, connect(2) chooses the even ones first.
var namespacePorts = safedial.PortRange{Low: 40000, High: 40009}

func main() {
	if inNamespace() {
		os.Exit(runInNamespace(os.Stdout, os.Stderr))
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("selfconnect", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, help)
		return statusKept
	}
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err != nil {
		fmt.Fprintf(stderr, "selfconnect: %v\n%s", err, usage)
		return statusError
	}

	status, err := startInNamespace(stdout, stderr)
	if err == nil {
		return status
	}
	fmt.Fprintf(stdout, "Without a network namespace of its own (%v), this can take seconds.\n", err)
	return show(stdout, stderr)
}

// show dials, and prints what came of it.
func show(stdout, stderr io.Writer) int {
	local, err := safedial.LocalPortRange()
	if err == nil {
		err = demonstrate(local, stdout, stderr)
	}
	switch {
	case errors.Is(err, errBroken):
		fmt.Fprintln(stderr, "selfconnect:", err)
		return statusBroken
	case errors.Is(err, errors.ErrUnsupported):
		err = errors.New("the local port range of this system is not known")
	}
	if err != nil {
		fmt.Fprintln(stderr, "selfconnect:", err)
		return statusError
	}
	return statusKept
}
