package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/progress"
)

const (
	// fewDials are enough for a self-connection if there are ten local ports: each makes
	// one with a probability of a fifth.
	fewDials = 200
	// patience is how long net.Dialer may take to meet one otherwise. It is a matter of
	// luck: one dial in as many as the range has ports of one parity.
	patience = 20 * time.Second
)

// errBroken is the error of safedial's promise.
var errBroken = errors.New("safedial did not keep its promise")

// An outcome is what came of dialing a port on which nothing listens.
type outcome struct {
	name     string
	port     uint16
	dials    int
	self     int   // self-connections that the kernel made
	returned int   // connections that the caller got
	last     error // of the last dial
	listen   error // of a server on the port right afterwards
}

func (o outcome) String() string {
	return fmt.Sprintf("%s: %d dials, self-connections: %d", o.name, o.dials, o.self)
}

// demonstrate dials with both dialers, as many times, and prints what came of it.
func demonstrate(local safedial.PortRange, stdout, stderr io.Writer) error {
	ports, err := deadPorts(local)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "The kernel chooses local ports from %s.\n"+
		"Nothing listens on port %d and port %d of 127.0.0.1.\n\n", local, ports[0], ports[1])
	before := withNet(ports[0], local.Len() <= namespacePorts.Len(), stderr)
	after := withSafedial(ports[1], before.dials, stderr)
	if err := printTable(stdout, before, after); err != nil {
		return err
	}
	switch {
	case after.returned > 0 || after.listen != nil || after.last == nil:
		return errBroken
	case before.self == 0:
		return fmt.Errorf("no self-connection in %d dials of net.Dialer: try again, because "+
			"the kernel chooses ports at random", before.dials)
	}
	fmt.Fprint(stdout, "\n"+
		"net.Dialer has closed the socket that was connected to itself, and dialed again.\n"+
		"Its port stays in TIME_WAIT: for a minute, no server can start there.\n")
	return nil
}

// deadPorts returns two ports on which nothing listens and which the kernel may choose, of
// the parity that connect(2) chooses first: that of the range's low end.
func deadPorts(local safedial.PortRange) ([]uint16, error) {
	var ports []uint16
	middle := int(local.Low) + local.Len()/4*2
	for port := middle; port <= int(local.High) && len(ports) < 2; port += 2 {
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

// withNet dials a few times or, if there are more ports, until the kernel has made a
// self-connection. net.Dialer hides it from its caller by dialing again, which calls
// Control once more; a port on which nothing listens gives it no other reason to.
func withNet(port uint16, few bool, stderr io.Writer) outcome {
	o := outcome{name: "net.Dialer", port: port}
	sockets := 0
	d := net.Dialer{Control: func(string, string, syscall.RawConn) error { sockets++; return nil }}
	start := time.Now()
	goOn := func() bool {
		if few {
			return o.dials < fewDials
		}
		return o.self == 0 && time.Since(start) < patience
	}
	o.dial(goOn, stderr, func(address string) (net.Conn, error) {
		sockets = 0
		conn, err := d.Dial("tcp", address)
		o.self += sockets - 1
		return conn, err
	})
	return o
}

// withSafedial dials as many times.
func withSafedial(port uint16, dials int, stderr io.Writer) outcome {
	o := outcome{name: "safedial", port: port}
	count := func(err error) {
		if errors.Is(err, safedial.ErrSelfConnect) {
			o.self++
		}
	}
	d := safedial.Dialer{OnRetry: func(_ context.Context, retry safedial.Retry) { count(retry.Err) }}
	o.dial(func() bool { return o.dials < dials }, stderr, func(address string) (net.Conn, error) {
		conn, err := d.Dial("tcp", address)
		count(err)
		return conn, err
	})
	return o
}

type dialFunc func(address string) (net.Conn, error)

// dial dials while goOn says so, and then starts a server on the port.
func (o *outcome) dial(goOn func() bool, stderr io.Writer, dial dialFunc) {
	line := progress.On(stderr)
	for goOn() {
		conn, err := dial(address(o.port))
		o.dials++
		o.last = err
		if conn != nil {
			o.returned++
			conn.Close()
		}
		line.Show(o.String)
	}
	line.Clear()
	o.listen = listen(o.port)
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

func printTable(w io.Writer, outcomes ...outcome) error {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	row := func(title string, cell func(outcome) any) {
		fmt.Fprint(table, title)
		for _, o := range outcomes {
			fmt.Fprintf(table, "\t%v", cell(o))
		}
		fmt.Fprintln(table)
	}
	row("", func(o outcome) any { return o.name })
	row("port", func(o outcome) any { return o.port })
	row("dials", func(o outcome) any { return o.dials })
	row("sockets connected to themselves", func(o outcome) any { return o.self })
	row("the last dial returns", func(o outcome) any { return cause(o.last, "a connection") })
	row("then a server on the port", func(o outcome) any { return cause(o.listen, "starts") })
	return table.Flush()
}

// cause returns the error of the system call, or what happens without an error.
func cause(err error, success string) any {
	var call *os.SyscallError
	switch {
	case errors.As(err, &call):
		return call.Err
	case err != nil:
		return err
	}
	return success
}
