package clients

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// TestHTTP2 shows that the page's transport speaks HTTP/2 and uses proxies, and that one
// made from nothing does not speak HTTP/2.
func TestHTTP2(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	d := &safedial.Dialer{Timeout: 5 * time.Second}
	protocol := func(transport *http.Transport) int {
		transport.TLSClientConfig = exampleTLS()
		defer transport.CloseIdleConnections()
		response, err := (&http.Client{Transport: transport}).Get(s.URL)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.ProtoMajor
	}
	assert.Equal(t, 2, protocol(HTTP(d)))
	assert.NotNil(t, HTTP(d).Proxy)
	nothing := &http.Transport{DialContext: d.DialContext}
	assert.Equal(t, 1, protocol(nothing), "the pitfall is gone")
}

const password = "correct horse battery staple"

// TestPassword shows that go-redis encrypts its password for a server with TLS if it dials
// by the page's line for TLS, and sends it in clear if it dials by the line without.
func TestPassword(t *testing.T) {
	redisServer.require(t)
	address := startRedisTLS(t)
	d := &safedial.Dialer{Timeout: 5 * time.Second}
	tests := []struct {
		name  string
		dial  func(*goredis.Options)
		clear bool
	}{
		{name: "GoRedisTLS", dial: func(o *goredis.Options) { GoRedisTLS(o, d, exampleTLS()) }},
		{name: "GoRedis", dial: func(o *goredis.Options) { GoRedis(o, d) }, clear: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wire := tap(t, address)
			options := &goredis.Options{
				Addr: wire.address, Password: password, TLSConfig: exampleTLS(), MaxRetries: -1,
			}
			tt.dial(options)
			client := goredis.NewClient(options)
			defer client.Close()
			err := client.Ping(t.Context()).Err()
			assert.Equal(t, tt.clear, err != nil, "%v", err)
			assert.Equal(t, tt.clear, bytes.Contains(wire.sent(), []byte(password)))
			assert.NotEmpty(t, wire.sent())
		})
	}
}

// TestTimeouts shows that the Dialer's Timeout ends the dials of the README's libraries, and
// of others, if a server answers no SYN.
func TestTimeouts(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.FullBacklog(t, 40000)
		for _, name := range []string{"HTTP", "GRPC", "GoRedisTLS", "PGX", "TLS"} {
			i := slices.IndexFunc(libraries, func(lib library) bool { return lib.name == name })
			d := &safedial.Dialer{Timeout: 200 * time.Millisecond}
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			start := time.Now()
			err := libraries[i].call(ctx, attempt{address: "127.0.0.1:40000", d: d})
			took := time.Since(start)
			require.Error(t, err, name)
			assert.NoError(t, ctx.Err(), "%s: the context ends the dial: %v", name, err)
			assert.GreaterOrEqual(t, took, d.Timeout, "%s: %v", name, err)
			cancel()
		}
	})
}

// startRedisTLS starts a Redis server that speaks TLS only and requires the password. It
// returns the server's address.
func startRedisTLS(t *testing.T) string {
	t.Helper()
	p := newProcess(t)
	certificate, _ := exampleCertificate()
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	require.NoError(t, err)
	write := func(kind string, der []byte) string {
		block := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		return p.write(t, kind, "%s", block)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	require.NoError(t, p.start(t, address, "redis-server", "--bind", "127.0.0.1",
		"--port", "0", "--tls-port", port(t, address), "--save", "",
		"--tls-cert-file", write("CERTIFICATE", certificate.Certificate[0]),
		"--tls-key-file", write("PRIVATE KEY", key),
		"--tls-auth-clients", "no", "--requirepass", password))
	return address
}

// A wire passes connections on, and keeps what the clients send.
type wire struct {
	address string
	mu      sync.Mutex
	buffer  bytes.Buffer
}

// tap makes a wire to the address, until the test ends.
func tap(t *testing.T, address string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	w := &wire{address: l.Addr().String()}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", address)
			if err != nil {
				_ = client.Close()
				return
			}
			go func() {
				_, _ = io.Copy(server, io.TeeReader(client, w))
				_ = server.Close()
			}()
			go func() {
				_, _ = io.Copy(client, server)
				_ = client.Close()
			}()
		}
	}()
	return w
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buffer.Write(p)
}

func (w *wire) sent() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Clone(w.buffer.Bytes())
}
