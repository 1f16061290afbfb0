package safedial

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const greeting = "a real peer\n"

// serve listens on address, greets whoever connects, then echoes, until the test
// ends or the listener is closed.
func serve(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if _, err := io.WriteString(conn, greeting); err == nil {
					_, _ = io.Copy(conn, conn)
				}
			}()
		}
	}()
	return l
}

// assertReal asserts that conn leads to a server of serve, and closes it so that
// its port is free at once.
func assertReal(t *testing.T, conn net.Conn, msg ...any) {
	t.Helper()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	text := make([]byte, len(greeting))
	_, err := io.ReadFull(conn, text)
	assert.NoError(t, err, msg...)
	assert.Equal(t, greeting, string(text), msg...)
	assert.False(t, IsSelfConnect(conn), msg...)
	hangUp(conn)
}

// hangUp closes conn with a reset, which leaves no TIME_WAIT on its port.
func hangUp(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// anyConn makes a net.Conn of what a typed dial returns.
func anyConn[C net.Conn](conn C, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	return conn, nil
}
