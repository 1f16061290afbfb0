package adopt

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// TestHTTP2 sees that the page's transport speaks HTTP/2, which one made from nothing
// does not, and asks for proxies.
func TestHTTP2(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	d := &safedial.Dialer{Timeout: 5 * time.Second}
	protocol := func(transport *http.Transport) int {
		transport.TLSClientConfig = &tls.Config{RootCAs: pool(server)}
		defer transport.CloseIdleConnections()
		response, err := (&http.Client{Transport: transport}).Get(server.URL)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.ProtoMajor
	}
	assert.Equal(t, 2, protocol(HTTP(d)))
	assert.NotNil(t, HTTP(d).Proxy)
	assert.Equal(t, 1, protocol(&http.Transport{DialContext: d.DialContext}), "the trap is gone")
}

const password = "correct horse battery staple"

// TestPassword sees that no password crosses the wire in clear to a Redis server
// with TLS, and that it does with DialContext in the place of the handshake.
func TestPassword(t *testing.T) {
	if lookup("redis-server") == "" {
		trip{program: "redis-server", debian: "redis-server"}.find(t)
	}
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	address := startRedisTLS(t, server.TLS.Certificates[0])
	d := &safedial.Dialer{Timeout: 5 * time.Second}
	config := &tls.Config{RootCAs: pool(server), ServerName: "example.com"}

	wire := tap(t, address)
	options := &goredis.Options{Addr: wire.address, Password: password, TLSConfig: config, MaxRetries: -1}
	GoRedisTLS(options, d, config)
	client := goredis.NewClient(options)
	defer client.Close()
	err := client.Set(t.Context(), "peer", "real", time.Minute).Err()
	assert.NotContains(t, wire.sent(), password)
	require.NoError(t, err)
	assert.NotEmpty(t, wire.sent())

	wire = tap(t, address)
	trapped := &goredis.Options{Addr: wire.address, Password: password, TLSConfig: config, MaxRetries: -1}
	GoRedis(trapped, d)
	client = goredis.NewClient(trapped)
	defer client.Close()
	require.Error(t, client.Ping(t.Context()).Err())
	assert.Contains(t, wire.sent(), password, "the trap is gone")
}

// startRedisTLS starts a Redis server that speaks nothing but TLS, and wants the
// password. It returns its address.
func startRedisTLS(t *testing.T, certificate tls.Certificate) string {
	t.Helper()
	p := process{dir: t.TempDir()}
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	require.NoError(t, p.start(t, address, "redis-server", "--bind", "127.0.0.1", "--port", "0", "--tls-port", port(t, address), "--save", "",
		"--tls-cert-file", p.write(t, "cert", "%s", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})),
		"--tls-key-file", p.write(t, "key", "%s", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
		"--tls-auth-clients", "no", "--requirepass", password))
	return address
}

// A wire passes connections on, and keeps what the client sends.
type wire struct {
	address string
	mu      sync.Mutex
	buffer  bytes.Buffer
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buffer.Write(p)
}

func (w *wire) sent() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buffer.String()
}

// tap makes a wire to the address.
func tap(t *testing.T, address string) *wire {
	t.Helper()
	w := new(wire)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	w.address = l.Addr().String()
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

// TestTimeouts sees that the Timeout of the README's snippets holds where a server
// answers no SYN.
func TestTimeouts(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		const address = "127.0.0.1:40000"
		nstest.FullBacklog(t, 40000)
		for name, call := range map[string]dialing{
			"DialContext": func(ctx context.Context, address string, d *safedial.Dialer) error {
				_, err := d.DialContext(ctx, "tcp", address)
				return err
			},
			"HTTP": func(ctx context.Context, address string, d *safedial.Dialer) error {
				return get(ctx, HTTP(d), "http://"+address)
			},
			"GRPC": func(ctx context.Context, address string, d *safedial.Dialer) error {
				client, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), GRPC(d))
				require.NoError(t, err)
				defer client.Close()
				_, err = healthpb.NewHealthClient(client).Check(ctx, new(healthpb.HealthCheckRequest))
				return err
			},
			"GoRedisTLS": func(ctx context.Context, address string, d *safedial.Dialer) error {
				options := &goredis.Options{Addr: address, MaxRetries: -1, DialerRetries: 1}
				GoRedisTLS(options, d, new(tls.Config))
				return goredis.NewClient(options).Ping(ctx).Err()
			},
			"PGX": func(ctx context.Context, address string, d *safedial.Dialer) error {
				config, err := pgx.ParseConfig("postgres://postgres@" + address + "/?sslmode=disable")
				require.NoError(t, err)
				PGX(config, d)
				_, err = pgx.ConnectConfig(ctx, config)
				return err
			},
			"TLS": func(ctx context.Context, address string, d *safedial.Dialer) error {
				_, err := TLS(d, new(tls.Config)).DialContext(ctx, "tcp", address)
				return err
			},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			start := time.Now()
			err := call(ctx, address, &safedial.Dialer{Timeout: 200 * time.Millisecond})
			took := time.Since(start)
			require.Error(t, err, name)
			assert.NoError(t, ctx.Err(), "%s: the dial ends with the context alone: %v", name, err)
			assert.GreaterOrEqual(t, took, 200*time.Millisecond, "%s: %v", name, err)
			assert.Less(t, took, 3*time.Second, "%s: %v", name, err)
			cancel()
		}
	})
}
