//go:build linux

// Bench compares safedial with net.Dialer, and both with the system calls that
// no dial can do without. It prints a table, and draws dial-cost.svg and
// dial-latency.svg. It needs user namespaces, and ip(8), but not root.
package main

import (
	"flag"
	"fmt"
	"log"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/dialbench"
	"github.com/safedial/safedial/internal/progress"
)

// The rigs of a scene, and of a point.
const (
	net = iota
	safedial
	floor
	empty = floor
)

func main() {
	dialbench.Main()
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	rounds := flag.Int(
		"rounds",
		200,
		"`number` of batches, of 100 dials each, that each dialer gets of a scene; 20 at least",
	)
	directory := flag.String("out", "../docs", "`directory` of the pictures")
	flag.Parse()
	if flag.NArg() > 0 || *rounds < 20 {
		flag.Usage()
		log.Fatal("it takes no arguments, and 20 rounds at least")
	}
	if err := run(*rounds, *directory); err != nil {
		log.Fatal(err)
	}
}

func run(rounds int, directory string) error {
	line := progress.New()
	step := func(name string) { line.Show(func() string { return "measuring: " + name }) }

	scenes, err := measureScenes(rounds, step)
	if err != nil {
		return err
	}
	open, err := measureOpen(rounds, step)
	if err != nil {
		return err
	}
	line.Done("done")
	fmt.Printf(
		"Linux %s, %s, %s, %d CPUs; %d batches of each dialer, in turn.\n\n",
		kernel(),
		runtime.Version(),
		runtime.GOARCH,
		runtime.NumCPU(),
		rounds,
	)
	printScenes(scenes)
	printOpen(open)
	if err := drawCost(open, directory); err != nil {
		return err
	}
	return drawLatency(scenes, directory)
}

func kernel() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err.Error()
	}
	release, _, _ := strings.Cut(unix.ByteSliceToString(name.Release[:]), "-")
	return release
}
