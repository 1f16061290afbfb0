//go:build linux || windows

// Dials dials closed and open ports of its own machine, by net.Dialer and by the
// library, and prints what came of each. It is for sandboxes and for Wine: build it
// statically, and run it with "runsc --network=sandbox do", --network=host, or wine.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"

	"github.com/safedial/safedial"
)

var dials = flag.Int("dials", 300, "dial so often in each row")

type dialer interface {
	Dial(network, address string) (net.Conn, error)
}

type row struct {
	name    string
	network string
	dialer  dialer
	ours    bool
	ports   safedial.PortRange
}

// failures counts what must not be.
var failures int

func fail(format string, args ...any) {
	failures++
	fmt.Printf("FAIL "+format+"\n", args...)
}

func main() {
	flag.Parse()
	system, err := safedial.LocalPortRange()
	fmt.Printf("local ports %v %v\n", system, err)
	for _, live := range []bool{false, true} {
		for _, r := range rows() {
			r.run(live)
		}
	}
	for i, network := range []string{"tcp4", "udp4"} {
		for j, name := range []string{"net.Dialer", "Dialer", "NetDialer"} {
			fromOwnPort(network, name, 10001+3*i+j) // below the local port range, so that no dial above has it
		}
	}
	fmt.Printf("done: %d failures\n", failures)
	if failures > 0 {
		os.Exit(1)
	}
}

func rows() (rows []row) {
	narrow := safedial.PortRange{Low: 50000, High: 50009}
	for _, network := range []string{"tcp4", "tcp6", "udp4", "udp6"} {
		limited := &safedial.Dialer{LocalPorts: narrow}
		rows = append(rows,
			row{"net.Dialer", network, new(net.Dialer), false, safedial.PortRange{}},
			row{"Dialer", network, new(safedial.Dialer), true, safedial.PortRange{}},
			row{"NetDialer", network, new(safedial.Dialer).NetDialer(), true, safedial.PortRange{}},
			row{"Dialer, LocalPorts", network, limited, true, narrow},
			row{"NetDialer, LocalPorts", network, limited.NetDialer(), true, narrow},
		)
	}
	return rows
}

// run dials a port with or without a server, and then starts a server there.
func (r row) run(live bool) {
	stop, address, err := target(r.network, r.ours, live)
	if err != nil {
		fmt.Printf("%-24s %s live %-5t: no server: %v\n", r.name, r.network, live, err)
		return
	}
	outcomes := map[string]int{}
	for range *dials {
		outcomes[r.once(address)]++
	}
	stop()
	if l, err := net.Listen("tcp", address); strings.HasPrefix(r.network, "tcp") && err != nil {
		if r.ours {
			fail("%s %s: the port is blocked: %v", r.name, r.network, err)
		} else {
			outcomes["blocked"]++
		}
	} else if l != nil {
		l.Close()
	}
	fmt.Printf("%-24s %s live %-5t: %v\n", r.name, r.network, live, outcomes)
}

// once dials, and returns what came of it.
func (r row) once(address string) string {
	conn, err := r.dialer.Dial(r.network, address)
	if err != nil {
		return brief(err)
	}
	defer conn.Close()
	switch {
	case safedial.IsSelfConnect(conn):
		if r.ours && !(strings.HasPrefix(r.network, "udp") && strings.HasPrefix(r.name, "NetDialer")) {
			fail("%s %s: a self-connection", r.name, r.network)
		}
		return "connected to itself"
	case r.ports != safedial.PortRange{} && !r.ports.Contains(port(conn)):
		fail("%s %s: connected from %d", r.name, r.network, port(conn))
		return "connected from a port outside of LocalPorts"
	case strings.HasPrefix(r.network, "tcp"):
		// The end that closes first leaves TIME_WAIT, and it must not be on a port that a
		// later row needs. gVisor of 2022 ignores SO_LINGER.
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			return err.Error()
		}
	}
	return "connected"
}

// fromOwnPort dials a port from itself, the one way to be sure of a self-connection.
func fromOwnPort(network, name string, number int) {
	address := fmt.Sprintf("127.0.0.1:%d", number)
	var local net.Addr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: number}
	if network == "udp4" {
		local = &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: number}
	}
	d := map[string]dialer{
		"net.Dialer": &net.Dialer{LocalAddr: local},
		"Dialer":     &safedial.Dialer{LocalAddr: local},
		"NetDialer":  (&safedial.Dialer{LocalAddr: local}).NetDialer(),
	}[name]
	conn, err := d.Dial(network, address)
	self := conn != nil && safedial.IsSelfConnect(conn)
	// NetDialer has no look at UDP's ports, and on Windows at none.
	promised := name == "Dialer" || name == "NetDialer" && network == "tcp4" && runtime.GOOS == "linux"
	if self && promised {
		fail("%s %s: a self-connection from a fixed port", name, network)
	}
	if conn != nil {
		conn.Close()
	}
	l, blocked := net.Listen("tcp4", address)
	if blocked == nil {
		l.Close()
	} else if name != "net.Dialer" {
		fail("%s: %v", name, blocked)
	}
	fmt.Printf(
		"%-24s %s from the destination's own port: self %t, %v; then a server: %v\n",
		name,
		network,
		self,
		cmp.Or(err, errors.New("connected")),
		cmp.Or(blocked, errors.New("starts")),
	)
}

func port(conn net.Conn) uint16 {
	switch a := conn.LocalAddr().(type) {
	case *net.TCPAddr:
		return uint16(a.Port)
	case *net.UDPAddr:
		return uint16(a.Port)
	}
	return 0
}

// target returns the address of a port inside of the usual local port range, and starts
// a server there if live is true. net.Dialer has a port of its own, because its
// self-connections can block it.
func target(network string, ours, live bool) (stop func(), address string, err error) {
	host, port := "127.0.0.1", "40000"
	if strings.HasSuffix(network, "6") {
		host = "::1"
	}
	if !ours {
		port = "41000"
	}
	address = net.JoinHostPort(host, port)
	if !live {
		return func() {}, address, nil
	}
	if strings.HasPrefix(network, "udp") {
		c, err := net.ListenPacket(network, address)
		if err != nil {
			return nil, "", err
		}
		return func() { c.Close() }, address, nil
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, "", err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	return func() { l.Close() }, address, nil
}

func brief(err error) string {
	for _, known := range []error{
		safedial.ErrSelfConnect, syscall.ECONNREFUSED, syscall.EADDRNOTAVAIL, syscall.EADDRINUSE,
		syscall.EAGAIN,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return err.Error()
}
