package clients

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial"
)

// A library is a client library and how the tests use it.
type library struct {
	name   string // of the library's function
	server server // of the round trip, if there is one
	tls    bool   // whether call can start with TLS

	// call has the library dial the server and get an answer.
	call func(ctx context.Context, a attempt) error
}

// An attempt says how a library is to dial.
type attempt struct {
	address string
	d       *safedial.Dialer // nil for the library's own dialer
	tls     *tls.Config      // nil for no TLS
}

// libraries are all libraries, in the order of the page.
var libraries = slices.Concat(httpLibraries, rpcLibraries, redisLibraries, sqlLibraries,
	nosqlLibraries, queueLibraries, serviceLibraries)

// TestDials shows that each library dials by safedial, and with a deadline of its own if
// the page says that its timeout bounds the dial.
func TestDials(t *testing.T) {
	page := lines(t)
	for _, lib := range libraries {
		t.Run(lib.name, func(t *testing.T) {
			says := page[lib.name].timeouts
			assert.Equal(t, strings.HasPrefix(says, "the library's"), hasDeadline(t, lib), says)
		})
	}
}

// TestTLS shows that each library that is told to use TLS starts with a handshake, if the
// page does not say that safedial's dial replaces it.
func TestTLS(t *testing.T) {
	page := lines(t)
	for _, lib := range libraries {
		if !lib.tls {
			continue
		}
		t.Run(lib.name, func(t *testing.T) {
			says := page[lib.name].tls
			const handshake = 0x16
			first := firstByte(t, lib)
			assert.Equal(t, !strings.Contains(says, "**none**"), first == handshake,
				"the first byte is %#x; the page says %q", first, says)
		})
	}
}

// url returns the URL of the address. With TLS, the scheme is the one with an "s".
func (a attempt) url(scheme string) string {
	if a.tls != nil {
		scheme += "s"
	}
	return scheme + "://" + a.address
}

// hasDeadline reports whether the library gives its dials a deadline, or a timeout.
func hasDeadline(t *testing.T, lib library) bool {
	t.Helper()
	dialed := make(chan bool, 1)
	d := &safedial.Dialer{
		ControlContext: func(ctx context.Context, _, _ string, _ syscall.RawConn) error {
			_, ok := ctx.Deadline()
			select {
			case dialed <- ok:
			default: // an earlier dial was enough
			}
			return nil
		},
	}
	callUntilEnd(t, lib, attempt{address: "127.0.0.1:1", d: d})
	select {
	case ok := <-dialed:
		return ok
	case <-time.After(10 * time.Second):
		require.Fail(t, "the library does not dial by safedial")
	}
	return false
}

// firstByte returns the first byte that the library sends if it is told to use TLS.
func firstByte(t *testing.T, lib library) byte {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	sent := make(chan byte, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		var b [1]byte
		if n, _ := conn.Read(b[:]); n == 1 {
			sent <- b[0]
		}
	}()
	d := &safedial.Dialer{Timeout: 5 * time.Second}
	callUntilEnd(t, lib, attempt{l.Addr().String(), d, exampleTLS()})
	select {
	case b := <-sent:
		return b
	case <-time.After(10 * time.Second):
		require.Fail(t, "the library sends nothing")
	}
	return 0
}

// callUntilEnd makes the call, which gets no answer, in the background. Its context ends
// with the test.
func callUntilEnd(t *testing.T, lib library, a attempt) {
	t.Helper()
	ctx := t.Context()
	go func() { _ = lib.call(ctx, a) }()
}
