package nstest

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Greeting is what a Server says first.
const Greeting = "a real peer\n"

// A Server greets whoever connects, then echoes.
type Server struct {
	net.Listener
	group  sync.WaitGroup
	mu     sync.Mutex
	conns  []net.Conn
	closed bool
}

// Serve starts a server that the test ends with.
func Serve(t *testing.T, network, address string) *Server {
	t.Helper()
	l, err := net.Listen(network, address)
	require.NoError(t, err)
	s := &Server{Listener: l}
	t.Cleanup(func() { s.Close() })
	s.group.Go(s.accept)
	return s
}

func (s *Server) accept() {
	for {
		conn, err := s.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.conns = append(s.conns, conn); s.closed {
			Reset(conn)
		}
		s.mu.Unlock()
		s.group.Go(func() {
			defer conn.Close()
			if _, err := io.WriteString(conn, Greeting); err == nil {
				echo(conn)
			}
		})
	}
}

// echo repeats what conn says. Package net must not splice(2): its pipes would stay open
// until the garbage is collected, and a test that counts descriptors would wait.
func echo(conn net.Conn) { _, _ = io.Copy(struct{ io.Writer }{conn}, conn) }

// Close returns when the server has closed every connection: until then each
// keeps the port from another server.
func (s *Server) Close() error {
	err := s.Listener.Close()
	s.mu.Lock()
	s.closed = true
	for _, conn := range s.conns {
		Reset(conn)
	}
	s.mu.Unlock()
	s.group.Wait()
	return err
}

// AssertReal asserts that conn leads to a Server, and closes it so that
// its port is free at once.
func AssertReal(t *testing.T, conn net.Conn, msg ...any) {
	t.Helper()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	text := make([]byte, len(Greeting))
	_, err := io.ReadFull(conn, text)
	assert.NoError(t, err, msg...)
	assert.Equal(t, Greeting, string(text), msg...)
	assert.NotEqual(t, conn.LocalAddr().String(), conn.RemoteAddr().String(), msg...)
	Reset(conn)
}

// Reset closes conn with a reset, which leaves no TIME_WAIT on its port.
func Reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// Echo starts a server that repeats what it hears, and keeps nothing of whom it
// has heard.
func Echo(t *testing.T, address string) net.Listener {
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
				defer Reset(conn)
				echo(conn)
			}()
		}
	}()
	return l
}

// Ask sends text and returns the answer, or the error.
func Ask(conn net.Conn, text string) string {
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

// GreetFor serves for a while.
func GreetFor(l net.Listener, d time.Duration) {
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
			defer Reset(conn)
			if _, err := io.WriteString(conn, Greeting); err == nil {
				_ = conn.SetReadDeadline(time.Now().Add(time.Second))
				_, _ = io.Copy(io.Discard, conn)
			}
		})
	}
}
