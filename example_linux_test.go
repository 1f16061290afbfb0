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
	"time"

	"github.com/safedial/safedial"
)

// Count the retries by cause, and publish the counts with expvar.
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

	// A dial makes these calls after a self-connection, and then if no port is left.
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
		logger.WarnContext(
			ctx,
			"dialing again",
			"network",
			r.Network,
			"address",
			r.Address,
			"attempt",
			r.Attempt,
			"cause",
			r.Err,
		)
	}}

	// A dial makes this call after a self-connection.
	d.OnRetry(
		context.Background(),
		safedial.Retry{Network: "tcp", Address: "db:5432", Attempt: 1, Err: safedial.ErrSelfConnect},
	)
	// Output:
	// level=WARN msg="dialing again" network=tcp address=db:5432 attempt=1 cause="connect: connection refused: socket connected to itself"
}

// Limit the kernel's choice of the local port to a range. Before Linux 6.3 the dial
// fails, because the kernel does not support that.
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

// A dial that connects to itself fails, and the port is free immediately.
func ExampleErrSelfConnect() {
	l := greet() // to get a free port
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

// If nothing listens on a port, a dial of it is refused, whether or not the kernel
// connected the socket to itself. A caller need not distinguish the two cases.
func ExampleDialer_DialContext_refused() {
	d := safedial.Dialer{MaxRetries: 5}
	_, err := d.DialContext(context.Background(), "tcp", "127.0.0.1:9")
	fmt.Println(errors.Is(err, syscall.ECONNREFUSED))
	// Output: true
}

func ExampleDialer_DialUnix() {
	d := safedial.Dialer{Timeout: 5 * time.Second}
	_, err := d.DialUnix(context.Background(), "unix", nil, &net.UnixAddr{Name: "/no/such/socket", Net: "unix"})
	fmt.Println(err)
	// Output: dial unix /no/such/socket: connect: no such file or directory
}
