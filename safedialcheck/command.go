package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/safedial/safedial/safedialcheck/listenports"
)

const usage = `safedialcheck finds the places of a Go program that dial without safedial.

usage: safedialcheck [flags] [packages]

  -fix                      apply the fixes; -diff prints them instead
  -dials                    run only this check: dials without safedial
  -listenports              run only this check: constant ports that may be taken
  -dials.tests              check the dials of test files too
  -dials.defaulttransport   with -fix, have main switch http.DefaultTransport
  -range low-high           the local port range of the hosts that run the program
                            (default 32768-60999)

It runs go vet, and passes on the other flags, such as -tags, -json and -C.
A comment "//safedial:ignore reason", on the line or above it, suppresses a report.

exit status:
  0   nothing to report; with -fix, also if places are left
  1   something to report, or with -fix -diff to change, or it does not build
  2   a wrong flag
`

// byGo reports whether the go command runs the program as its vet tool.
func byGo(args []string) bool {
	return slices.ContainsFunc(args, func(arg string) bool {
		return arg == "-V=full" || arg == "-flags" || strings.HasSuffix(arg, ".cfg")
	})
}

// run runs go vet with this program as its tool, and returns the exit status.
func run(args []string) int {
	for _, arg := range args {
		switch arg {
		case "-h", "-help", "--help", "help":
			fmt.Print(usage)
			return 0
		}
	}
	if _, bad := badRange(args); bad != nil {
		fail(bad)
		return 2
	}
	own, err := os.Executable()
	if err != nil {
		return fail(err)
	}
	tool := []string{"-vettool=" + own}
	vet := exec.Command("go", slices.Concat(first(args), tool, rest(args))...) // #nosec G204
	vet.Stdin, vet.Stdout, vet.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = vet.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		return fail(err)
	}
	return 0
}

// first returns the name of go's command, and the flag -C, which has to come first.
func first(args []string) []string {
	return append([]string{"vet"}, args[:changesDir(args)]...)
}

func rest(args []string) []string { return args[changesDir(args):] }

// changesDir returns how many of the arguments are the flag -C and its value.
func changesDir(args []string) int {
	switch {
	case len(args) > 1 && (args[0] == "-C" || args[0] == "--C"):
		return 2
	case len(args) > 0 && (strings.HasPrefix(args[0], "-C=") || strings.HasPrefix(args[0], "--C=")):
		return 1
	}
	return 0
}

// badRange returns what is wrong with the flag -range, and the last argument, which for
// the go command's calls names the package's configuration.
func badRange(args []string) (last string, bad error) {
	for i, arg := range args {
		last = arg
		name, value, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !strings.HasPrefix(arg, "-") || name != "range" && name != "listenports.range" {
			continue
		}
		if !hasValue && i+1 < len(args) {
			value = args[i+1]
		}
		if err := new(listenports.PortRange).Set(value); err != nil {
			bad = fmt.Errorf("flag -range: %w", err)
		}
	}
	return last, bad
}

// failOnce fails for a package that is named, and not for those that it imports.
func failOnce(config string, err error) int {
	var unit struct{ VetxOnly bool }
	text, _ := os.ReadFile(config) // #nosec G304 -- the go command has written it
	if json.Unmarshal(text, &unit) == nil && unit.VetxOnly {
		return 0
	}
	return fail(err)
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "safedialcheck:", err)
	return 1
}
