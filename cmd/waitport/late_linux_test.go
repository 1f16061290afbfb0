package main

import (
	"context"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
	"github.com/safedial/safedial/internal/progress"
)

const address = "127.0.0.1:40000"

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// lateServer waits at most so long for a server that starts after a while, and returns
// what came of both: whether the wait ended before there was a server, its error, and
// that of the server.
func lateServer(
	t *testing.T, atMost time.Duration, dial dialFunc,
) (early bool, waited, listened error) {
	t.Helper()
	var started atomic.Bool
	result := make(chan error, 1)
	time.AfterFunc(300*time.Millisecond, func() {
		started.Store(true)
		l, err := net.Listen("tcp", address) //safedial:ignore the test has a namespace of its own
		result <- err
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), atMost)
	defer cancel()
	w := waiter{dial: dial, line: progress.New()}
	waited = w.wait(ctx, address)
	early = waited == nil && !started.Load()
	return early, waited, <-result
}

// TestLateServer has the wait end when the server is up, and not before.
func TestLateServer(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, 40000, 40001)
		early, waited, listened := lateServer(t, time.Minute, new(safedial.Dialer).DialContext)
		assert.False(t, early)
		assert.NoError(t, waited)
		assert.NoError(t, listened)
	})
}

// TestLateServerOfTheOnlyPort leaves no port to dial from once the server is up:
// the wait does not end, but the server starts.
func TestLateServerOfTheOnlyPort(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, 40000, 40000)
		early, waited, listened := lateServer(t, time.Second, new(safedial.Dialer).DialContext)
		assert.False(t, early)
		assert.ErrorIs(t, waited, syscall.EADDRNOTAVAIL)
		assert.NoError(t, listened)
	})
}

// TestLateServerWithNet is what the command is there for.
func TestLateServerWithNet(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, 40000, 40000)
		early, waited, listened := lateServer(t, time.Second, new(net.Dialer).DialContext)
		require.True(t, early || listened != nil, "waited: %v", waited)
		t.Logf("net.Dialer: up before the server is: %t; then the server: %v", early, listened)
	})
}
