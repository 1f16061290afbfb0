//go:build unix

package proof

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial"
)

// TestPortsInTests runs the code of docs/ports-in-tests.md, and finds each of its Go blocks
// in this file.
func TestPortsInTests(t *testing.T) {
	t.Run("keep the listener", func(t *testing.T) {
		address := serve(t, http.NotFoundHandler())
		response, err := http.Get("http://" + address)
		require.NoError(t, err)
		assert.NoError(t, response.Body.Close())
		assert.Equal(t, http.StatusNotFound, response.StatusCode)
	})
	t.Run("a port that stays closed", func(t *testing.T) {
		address := closedPort(t)
		for range 100 {
			_, err := net.Dial("tcp", address)
			require.ErrorIs(t, err, syscall.ECONNREFUSED)
		}
		_, err := net.Listen("tcp", address)
		assert.ErrorIs(t, err, syscall.EADDRINUSE)
	})
	t.Run("a server that restarts", func(t *testing.T) {
		l := listenBelow(t)
		address := l.Addr().String()
		for range 20 {
			require.NoError(t, l.Close())
			_, err := net.Dial("tcp", address)
			require.ErrorIs(t, err, syscall.ECONNREFUSED)
			l, err = net.Listen("tcp", address)
			require.NoError(t, err)
		}
		assert.NoError(t, l.Close())
	})
	t.Run("a probe", func(t *testing.T) {
		l := listenBelow(t)
		defer l.Close()
		assert.NoError(t, await(t.Context(), l.Addr().String()))
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		assert.Error(t, await(ctx, closedPort(t)))
	})
	t.Run("the page", func(t *testing.T) {
		page, err := os.ReadFile("../docs/ports-in-tests.md")
		require.NoError(t, err)
		source, err := os.ReadFile("portsintests_test.go")
		require.NoError(t, err)
		flat := strings.ReplaceAll(string(source), "\n\t", "\n")
		blocks := strings.Split(string(page), "```go\n")[1:]
		require.Len(t, blocks, 4)
		for _, block := range blocks {
			code, _, _ := strings.Cut(block, "```")
			assert.True(t, strings.Contains(string(source), code) || strings.Contains(flat, code), "%s", code)
		}
	})
}

// serve is the first block of the page.
func serve(t *testing.T, handler http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	address := l.Addr().String()
	return address
}

// closedPort returns an address that refuses connections until the test ends.
func closedPort(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", bound.(*syscall.SockaddrInet4).Port)
}

// listenBelow listens on a port below the local port range of Linux and macOS.
func listenBelow(t *testing.T) net.Listener {
	t.Helper()
	for port := 20000; port < 30000; port++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return l
		}
	}
	t.Fatal("every port from 20000 to 29999 is in use")
	return nil
}

// await waits until a server accepts connections at the address.
func await(ctx context.Context, address string) error {
	d := &safedial.Dialer{Timeout: time.Second}
	for {
		conn, err := d.DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}
