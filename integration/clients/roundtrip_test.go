package clients

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

// TestRoundTrip shows that a library that dials by itself while its server is down keeps
// the port from the server, and that with safedial the server starts and answers.
func TestRoundTrip(t *testing.T) {
	for _, lib := range libraries {
		if lib.server.start == nil {
			continue
		}
		t.Run(lib.name, func(t *testing.T) {
			lib.server.require(t)
			nstest.Run(t, func(t *testing.T) {
				nstest.RequirePortRange(t, "a server can start whenever it wants")
				own := lib.roundTrip(t, 40000, nil)
				require.Error(t, own, "with the library's own dialer")
				assert.True(t, addressInUse(own), "not because of the server's port: %v", own)
				d := &safedial.Dialer{Timeout: 5 * time.Second}
				require.NoError(t, lib.roundTrip(t, 50000, d), "with safedial")
			})
		})
	}
}

// localPorts is the size of the local port range. The kernel tries every other port before
// the rest, one after the other, so that a self-connection takes half as many dials.
const localPorts = 16

// roundTrip dials while the server is down, starts the server, and dials until it answers.
func (lib library) roundTrip(t *testing.T, port uint16, d *safedial.Dialer) error {
	t.Helper()
	nstest.SetLocalPorts(t, port, port+localPorts-1)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port)))
	lib.dialClosedPort(t, port, attempt{address: address, d: d})
	if err := lib.server.start(t, address); err != nil {
		return err
	}
	var err error
	end := time.Now().Add(40 * time.Second)
	for ; time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = lib.try(10*time.Second, attempt{address: address, d: d}); err == nil {
			return nil
		}
	}
	return fmt.Errorf("no answer: %w", err)
}

// dialClosedPort dials until a socket has the port, or until safedial has dialed from each
// local port.
func (lib library) dialClosedPort(t *testing.T, port uint16, a attempt) {
	t.Helper()
	var sockets atomic.Int32
	if a.d != nil {
		a.d.Control = func(string, string, syscall.RawConn) error {
			sockets.Add(1)
			return nil
		}
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		require.Error(t, lib.try(500*time.Millisecond, a), "there is no server")
		if len(nstest.SocketsOn(t, port)) > 0 || sockets.Load() > localPorts {
			break
		}
	}
	if a.d != nil {
		require.Greater(t, sockets.Load(), int32(localPorts/2), "the library hardly dials")
	}
}

// try makes one attempt. Some calls do not end when their context does: a client that is
// connected to itself can wait forever.
func (lib library) try(limit time.Duration, a attempt) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- lib.call(ctx, a) }()
	select {
	case err := <-result:
		return err
	case <-time.After(limit + time.Second):
		return errors.New("no answer and no error")
	}
}

// addressInUse reports whether a server could not bind its port because of err.
func addressInUse(err error) bool {
	text := strings.ToLower(err.Error())
	return errors.Is(err, syscall.EADDRINUSE) ||
		strings.Contains(text, "address already in use") ||
		strings.Contains(text, "could not bind listening") // vsftpd
}
