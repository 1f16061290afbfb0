package adopt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// A trip goes to a server that is down at first, on a port that the kernel may pick
// as a local port.
type trip struct {
	library string // the name of its function
	server  string
	program string // what the server needs, if it is a program
	debian  string // the package that has it

	// start starts the server, and returns the error if it cannot listen.
	start func(t *testing.T, address string) error

	// call has the library dial the server and get an answer. If d is nil, the
	// library dials by itself.
	call func(ctx context.Context, address string, d *safedial.Dialer) error
}

// ports is how many local ports there are. The kernel tries every other port before
// the rest, one after the other, so that a self-connection takes half as many dials.
const ports = 16

// run makes the trip with the library's own dialer, and with safedial.
func (tr trip) run(t *testing.T) {
	t.Helper()
	tr.library = name(t)
	if tr.program != "" && tr.find(t) == "" {
		return
	}
	nstest.Run(t, func(t *testing.T) {
		nstest.RequirePortRange(t, "a server can start whenever it wants")
		deadline := hasDeadline(t, tr.call)
		own := tr.leg(t, 40000, nil)
		safe := tr.leg(t, 50000, &safedial.Dialer{Timeout: 5 * time.Second})
		record(t, result{tr.library, tr.server, outcome(own), outcome(safe)})
		require.NoError(t, safe, "with safedial")
		require.Error(t, own, "with the library's own dialer")
		assert.True(t, inUse(own), "other than the server's port: %v", own)
		claim(t, tr.library, deadline)
	})
}

// name returns the library's, from the test's.
func name(t *testing.T) string {
	t.Helper()
	library, ok := strings.CutPrefix(t.Name(), "TestRoundTrip")
	require.True(t, ok)
	return library
}

// leg dials while the server is down, starts the server, and dials until it answers.
func (tr trip) leg(t *testing.T, port uint16, d *safedial.Dialer) error {
	t.Helper()
	nstest.SetLocalPorts(t, port, port+ports-1)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port)))
	var sockets atomic.Int32
	if d != nil {
		d.Control = func(string, string, syscall.RawConn) error {
			sockets.Add(1)
			return nil
		}
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		err := tr.attempt(500*time.Millisecond, address, d)
		require.Error(t, err, "there is no server")
		if len(nstest.SocketsOn(t, port)) > 0 || sockets.Load() > ports {
			break
		}
	}
	if d != nil {
		require.Greater(t, sockets.Load(), int32(ports/2), "the library hardly dials")
	}
	if err := tr.start(t, address); err != nil {
		return err
	}
	var err error
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = tr.attempt(10*time.Second, address, d); err == nil {
			return nil
		}
	}
	return fmt.Errorf("no answer: %w", err)
}

var errHangs = errors.New("no answer, no error")

// attempt calls once. Some calls do not end when their context does: to talk to
// oneself can take forever.
func (tr trip) attempt(limit time.Duration, address string, d *safedial.Dialer) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- tr.call(ctx, address, d) }()
	select {
	case err := <-result:
		return err
	case <-time.After(limit + time.Second):
		return errHangs
	}
}

// inUse reports whether the server cannot have its port.
func inUse(err error) bool {
	return errors.Is(err, syscall.EADDRINUSE) || strings.Contains(strings.ToLower(err.Error()), "address already in use") ||
		strings.Contains(err.Error(), "could not bind listening") // vsftpd
}

// outcome says in a few words what came of a trip.
func outcome(err error) string {
	switch {
	case err == nil:
		return "passes"
	case inUse(err):
		return "fails: the server cannot bind its port: address already in use"
	}
	return "fails: " + err.Error()
}
