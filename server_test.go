package safedial

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const greeting = "a real peer\n"

// A server greets whoever connects, then echoes.
type server struct {
	net.Listener
	group  sync.WaitGroup
	mu     sync.Mutex
	conns  []net.Conn
	closed bool
}

// serve starts a server that the test ends with.
func serve(t *testing.T, network, address string) *server {
	t.Helper()
	l, err := net.Listen(network, address)
	require.NoError(t, err)
	s := &server{Listener: l}
	t.Cleanup(func() { s.Close() })
	s.group.Go(s.accept)
	return s
}

func (s *server) accept() {
	for {
		conn, err := s.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.conns = append(s.conns, conn); s.closed {
			hangUp(conn)
		}
		s.mu.Unlock()
		s.group.Go(func() {
			defer conn.Close()
			if _, err := io.WriteString(conn, greeting); err == nil {
				_, _ = io.Copy(conn, conn)
			}
		})
	}
}

// Close returns when the server has closed every connection: until then each
// keeps the port from another server.
func (s *server) Close() error {
	err := s.Listener.Close()
	s.mu.Lock()
	s.closed = true
	for _, conn := range s.conns {
		hangUp(conn)
	}
	s.mu.Unlock()
	s.group.Wait()
	return err
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

// echo starts a server that repeats what it hears, and keeps nothing of whom it
// has heard.
func echo(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer hangUp(conn)
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return l
}

// ask sends text and returns the answer, or the error.
func ask(conn net.Conn, text string) string {
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, text); err != nil {
		return err.Error()
	}
	answer := make([]byte, len(text))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err.Error()
	}
	return string(answer)
}

// greetFor serves for a while.
func greetFor(l net.Listener, d time.Duration) {
	timer := time.AfterFunc(d, func() { l.Close() })
	defer timer.Stop()
	var group sync.WaitGroup
	defer group.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		group.Go(func() {
			defer hangUp(conn)
			if _, err := io.WriteString(conn, greeting); err == nil {
				_ = conn.SetReadDeadline(time.Now().Add(time.Second))
				_, _ = io.Copy(io.Discard, conn)
			}
		})
	}
}
