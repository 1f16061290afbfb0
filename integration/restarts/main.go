//go:build linux

// Restarts restarts the server of five kinds of programs ten times each, while a client
// reconnects, and prints how many starts fail: with the library's own dialer, and with
// safedial. All of it happens in a network namespace with eleven local ports, of which the
// server's is one. It needs user namespaces, but not root.
//
//	cd integration && go run ./restarts
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/netns"
)

const (
	starts = 10
	first  = 40000 // the eleven local ports are 40000 to 40010
	last   = 40010
	port   = 40002

	// insideEnv says which program the process in the namespace restarts, and its dialer.
	insideEnv = "SAFEDIAL_RESTARTS_INSIDE"
)

// A program is a client library with its server.
type program struct {
	name string

	// serve serves the listener until that is closed.
	serve func(l net.Listener)

	// connect connects to the server once, with the library's own dialer, or with d. Whether
	// the server is up does not matter.
	connect func(ctx context.Context, address string, d *safedial.Dialer)
}

func main() {
	if inside := os.Getenv(insideEnv); inside != "" {
		run(inside)
		return
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "client\tstarts that failed with its own dialer\twith safedial\n")
	for i, p := range programs() {
		fmt.Fprintf(table, "%s\t%s of %d\t%s of %d\n", p.name, isolated(i, "own"), starts, isolated(i, "safedial"), starts)
	}
	table.Flush()
}

// isolated restarts the server of a program in a namespace of its own, where nothing is left
// of the one before, and returns how many starts failed.
func isolated(i int, dialer string) string {
	cmd := netns.Command(context.Background())
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", insideEnv, i, dialer))
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	if err != nil {
		fmt.Fprintln(os.Stderr, "restarts:", err)
		os.Exit(1)
	}
	return string(output)
}

// run is the process in the namespace.
func run(inside string) {
	var i int
	var dialer string
	_, err := fmt.Sscan(inside, &i, &dialer)
	if err = errors.Join(err, netns.RaiseLoopback(), netns.SetLocalPorts(first, last)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var d *safedial.Dialer
	if dialer == "safedial" {
		d = &safedial.Dialer{Timeout: time.Second}
	}
	fmt.Print(programs()[i].restart(d))
}

// restart restarts the server, and returns how many starts failed. Between two
// of them the client finds the port closed for a while.
func (p program) restart(d *safedial.Dialer) (failed int) {
	address := fmt.Sprintf("127.0.0.1:%d", port)
	ctx, cancel := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	clients.Go(func() {
		for ctx.Err() == nil {
			p.connect(ctx, address, d)
		}
	})
	for range starts {
		time.Sleep(100 * time.Millisecond)
		l, err := net.Listen("tcp", address)
		if err != nil {
			failed++
			continue
		}
		var server sync.WaitGroup
		server.Go(func() { p.serve(l) })
		time.Sleep(50 * time.Millisecond)
		l.Close()
		server.Wait()
	}
	cancel()
	clients.Wait()
	return failed
}
