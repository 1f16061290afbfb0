// Command safedialcheck finds the places of a program that dial without safedial,
// fixes those that are mechanical, and finds constant ports that a program listens
// on although an outgoing connection may have them. The go command runs it. From a
// clone of safedial:
//
//	go install -C safedialcheck .
//
// Then in the program's module:
//
//	go vet -vettool=$(which safedialcheck) ./...
//	go get github.com/safedial/safedial
//	go fix -fixtool=$(which safedialcheck) -dials ./...
//
// See the packages dials and listenports for what the two checks report.
package main

import (
	"flag"

	"golang.org/x/tools/go/analysis/unitchecker"

	"github.com/safedial/safedial/safedialcheck/dials"
	"github.com/safedial/safedial/safedialcheck/listenports"
)

func main() {
	// With two analyzers the flags of each have its name before them; -range is unambiguous without.
	flag.Var(&listenports.LocalPorts, "range", "the local port range, `low-high`")
	unitchecker.Main(dials.Analyzer, listenports.Analyzer)
}
