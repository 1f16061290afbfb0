// Command safedialcheck finds the places of a program that dial without safedial,
// fixes those that are mechanical, and finds constant ports that a program listens
// on although an outgoing connection may have them.
//
//	go install github.com/safedial/safedial/safedialcheck@latest
//	safedialcheck ./...
//	safedialcheck -fix -dials ./...
//
// It runs go vet with itself as the vet tool. See the packages dials and listenports for
// what the two checks report.
package main

import (
	"flag"
	"os"

	"golang.org/x/tools/go/analysis/unitchecker"

	"github.com/safedial/safedial/safedialcheck/dials"
	"github.com/safedial/safedial/safedialcheck/ignores"
	"github.com/safedial/safedial/safedialcheck/listenports"
)

func main() {
	args := os.Args[1:]
	if !byGo(args) {
		os.Exit(run(args))
	}
	if config, bad := badRange(args); bad != nil {
		os.Exit(failOnce(config, bad))
	}
	// The flags of each analyzer have its name before them; -range is unambiguous without.
	flag.Var(&listenports.LocalPorts, "range", "the local port range, `low-high`")
	unitchecker.Main(dials.Analyzer, listenports.Analyzer, ignores.Analyzer)
}
