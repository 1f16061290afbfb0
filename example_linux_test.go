package safedial_test

import (
	"context"
	"errors"
	"expvar"
	"fmt"
	"log"
	"log/slog"
	"net"
	"os"
	"syscall"

	"github.com/safedial/safedial"
)

// Count the retries by their cause, where expvar shows them.
func ExampleDialer_expvar() {
	retries := expvar.NewMap("dial_retries")
	d := safedial.Dialer{OnRetry: func(_ context.Context, r safedial.Retry) {
		switch {
		case errors.Is(r.Err, safedial.ErrSelfConnect):
			retries.Add("self_connect", 1)
		case errors.Is(r.Err, syscall.EADDRNOTAVAIL):
			retries.Add("no_local_port", 1)
		}
	}}

	// What a dial calls that meets itself, and then finds no port.
	d.OnRetry(context.Background(), safedial.Retry{Attempt: 1, Err: safedial.ErrSelfConnect})
	d.OnRetry(context.Background(), safedial.Retry{Attempt: 2, Err: syscall.EADDRNOTAVAIL})
	fmt.Println(retries)
	// Output: {"no_local_port": 1, "self_connect": 1}
}

// Log each retry.
func ExampleDialer_slog() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey { // it differs from run to run
				return slog.Attr{}
			}
			return a
		},
	}))
	d := safedial.Dialer{OnRetry: func(ctx context.Context, r safedial.Retry) {
		logger.WarnContext(ctx, "dialing again", "network", r.Network, "address", r.Address, "attempt", r.Attempt, "cause", r.Err)
	}}

	// What a dial calls that meets itself.
	d.OnRetry(context.Background(), safedial.Retry{Network: "tcp", Address: "db:5432", Attempt: 1, Err: safedial.ErrSelfConnect})
	// Output: level=WARN msg="dialing again" network=tcp address=db:5432 attempt=1 cause="connect: connection refused: socket connected to itself"
}

// Keep the kernel's choice of local port within a range. Where it cannot be told,
// before Linux 6.3, the dial fails.
func ExampleDialer_localPorts() {
	l := greet()
	defer l.Close()
	system, err := safedial.LocalPortRange()
	if err != nil {
		log.Fatal(err)
	}

	upper := safedial.PortRange{Low: system.High - uint16(system.Len()/2), High: system.High}
	d := safedial.Dialer{LocalPorts: upper}
	conn, err := d.Dial("tcp", l.Addr().String())
	if err == nil {
		defer conn.Close()
		fmt.Println(upper.Contains(uint16(conn.LocalAddr().(*net.TCPAddr).Port)))
	} else {
		fmt.Println(errors.Is(err, errors.ErrUnsupported))
	}

	d.LocalPorts = safedial.PortRange{Low: 60000, High: 50000}
	_, err = d.Dial("tcp", l.Addr().String())
	fmt.Println(err)
	// Output:
	// true
	// dial tcp: local ports 60000-50000: the first is above the last
}

// A socket that is connected to itself is refused, and its port free at once.
func ExampleErrSelfConnect() {
	l := greet() // for a port that nobody else has
	address := l.Addr().(*net.TCPAddr)
	_ = l.Close()

	d := safedial.Dialer{LocalAddr: address}
	_, err := d.Dial("tcp", address.String())
	fmt.Println(errors.Is(err, safedial.ErrSelfConnect), errors.Is(err, syscall.ECONNREFUSED))

	server, err := net.Listen("tcp", address.String())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the server starts")
	_ = server.Close()
	// Output:
	// true true
	// the server starts
}

// A dial of a port that nobody listens on is refused, whether or not the kernel
// connected the socket to itself; a caller need not tell the two apart.
func ExampleDialer_DialContext_refused() {
	d := safedial.Dialer{MaxRetries: 5}
	_, err := d.DialContext(context.Background(), "tcp", "127.0.0.1:9")
	fmt.Println(errors.Is(err, syscall.ECONNREFUSED))
	// Output: true
}
