// Command selfconnect shows on this machine what a dial of a dead local port can
// do: it dials one with net.Dialer until the kernel connects the socket to
// itself, tries to start a server there, and does the same with safedial.
//
// It exits with status 0 if safedial kept its promise and 1 if it did not.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/progress"
)

// patience is how long net.Dialer may take to meet a self-connection. It is a
// matter of luck: one dial in as many as the range has ports of one parity.
const patience = 8 * time.Second

// A run is what came of dialing a dead port.
type run struct {
	name     string
	port     uint16
	dials    int
	self     int // self-connections that the kernel made
	returned int // connections that the caller got
	elapsed  time.Duration
	listen   error // of a server on the port right afterwards
}

func (r run) String() string {
	return fmt.Sprintf("%s: %d dials, self-connections: %d", r.name, r.dials, r.self)
}

func main() {
	local, err := safedial.LocalPortRange()
	if errors.Is(err, errors.ErrUnsupported) {
		fmt.Println("This demonstration requires Linux: on this system the local port range is unknown.")
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "selfconnect:", err)
		os.Exit(1)
	}
	ports, err := deadPorts(local)
	if err != nil {
		fmt.Fprintln(os.Stderr, "selfconnect:", err)
		os.Exit(1)
	}
	fmt.Printf("The kernel chooses local ports from %s. Nothing listens on 127.0.0.1:%d and :%d: dialing them.\n", local, ports[0], ports[1])
	before := withNet(ports[0])
	after := withSafedial(ports[1], before.dials)
	report(before, after)
	if after.returned > 0 || after.listen != nil {
		fmt.Println("safedial did not keep its promise.")
		os.Exit(1)
	}
}

// deadPorts returns two ports that nobody listens on and that the kernel may
// pick, of the parity that connect(2) picks first: that of the range's low end.
func deadPorts(local safedial.PortRange) ([]uint16, error) {
	var ports []uint16
	for port := int(local.Low) + local.Len()/4*2; port <= int(local.High) && len(ports) < 2; port += 2 {
		if ephemeral, err := safedial.IsEphemeral(uint16(port)); err != nil || !ephemeral {
			continue
		}
		if listen(uint16(port)) == nil {
			ports = append(ports, uint16(port))
		}
	}
	if len(ports) < 2 {
		return nil, fmt.Errorf("no two free ports in %s", local)
	}
	return ports, nil
}

// withNet dials until the kernel has made a self-connection. net.Dialer hides the
// first two of a dial from its caller by a dial of its own, which calls Control
// once more; a dead port gives it no other reason to.
func withNet(port uint16) run {
	r := run{name: "net.Dialer", port: port}
	sockets := 0
	d := net.Dialer{Control: func(string, string, syscall.RawConn) error { sockets++; return nil }}
	line := progress.New()
	start := time.Now()
	for r.self == 0 && time.Since(start) < patience {
		sockets = 0
		conn, _ := d.Dial("tcp", address(port))
		r.dials++
		if conn != nil {
			r.returned++
			conn.Close()
		}
		r.self += sockets - 1
		line.Show(func() string { return r.String() })
	}
	r.elapsed = time.Since(start)
	r.listen = listen(port)
	line.Done(r.String())
	return r
}

// withSafedial dials as many times.
func withSafedial(port uint16, dials int) run {
	r := run{name: "safedial", port: port}
	d := safedial.Dialer{OnRetry: func(_ context.Context, retry safedial.Retry) {
		if errors.Is(retry.Err, safedial.ErrSelfConnect) {
			r.self++
		}
	}}
	line := progress.New()
	start := time.Now()
	for r.dials < dials {
		conn, err := d.Dial("tcp", address(port))
		r.dials++
		if conn != nil {
			r.returned++
			conn.Close()
		}
		if errors.Is(err, safedial.ErrSelfConnect) {
			r.self++
		}
		line.Show(func() string { return r.String() })
	}
	r.elapsed = time.Since(start)
	r.listen = listen(port)
	line.Done(r.String())
	return r
}

func address(port uint16) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))) }

// listen starts a server and stops it.
func listen(port uint16) error {
	l, err := net.Listen("tcp", address(port))
	if err != nil {
		return err
	}
	return l.Close()
}

func report(runs ...run) {
	fmt.Println()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	row := func(title string, cell func(run) any) {
		fmt.Fprint(w, title)
		for _, r := range runs {
			fmt.Fprintf(w, "\t%v", cell(r))
		}
		fmt.Fprintln(w)
	}
	row("", func(r run) any { return r.name })
	row("dead port", func(r run) any { return r.port })
	row("dials", func(r run) any { return r.dials })
	row("time per dial", func(r run) any { return (r.elapsed / time.Duration(r.dials)).Round(100 * time.Nanosecond) })
	row("self-connections made by the kernel", func(r run) any { return r.self })
	row("connections handed to the caller", func(r run) any { return r.returned })
	row("then a server on that port", func(r run) any {
		var call *os.SyscallError
		if errors.As(r.listen, &call) {
			return call.Err
		}
		if r.listen != nil {
			return r.listen
		}
		return "starts immediately"
	})
	w.Flush()
	fmt.Println()
	if before := runs[0]; before.self == 0 {
		fmt.Printf("The kernel made no self-connection in %d dials of net.Dialer. It chooses ports at random: try again.\n", before.dials)
	} else if before.listen != nil {
		fmt.Println("net.Dialer closed the self-connection, which left it in TIME_WAIT: the port is blocked for a minute.")
	}
}
