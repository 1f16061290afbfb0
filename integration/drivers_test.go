package integration

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/proxy"
	"golang.org/x/net/websocket"

	"github.com/safedial/safedial"
)

// counted counts the connections that a driver dials.
func counted(d *safedial.Dialer, dials *atomic.Int32) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return d.DialContext(ctx, network, address)
	}
}

func TestRedis(t *testing.T) {
	program := find(t, "redis-server")
	port := localPort(t)
	address := net.JoinHostPort("127.0.0.1", port)
	s := newServer(t)
	s.start(t, address, program, "--bind", "127.0.0.1", "--port", port, "--dir", s.dir, "--save", "")

	d := safedial.Dialer{Timeout: 5 * time.Second}
	var dials atomic.Int32
	for name, dial := range map[string]func(context.Context, string, string) (net.Conn, error){
		"DialContext":         d.DialContext,
		"package DialContext": safedial.DialContext,
		"counted":             counted(&d, &dials),
	} {
		t.Run(name, func(t *testing.T) {
			client := redis.NewClient(&redis.Options{Addr: address, Dialer: dial})
			defer client.Close()
			require.NoError(t, client.Set(t.Context(), "peer", "real", time.Minute).Err())
			value, err := client.Get(t.Context(), "peer").Result()
			require.NoError(t, err)
			assert.Equal(t, "real", value)
		})
	}
	assert.Positive(t, dials.Load(), "the client does not use the dialer")
}

func TestPostgreSQL(t *testing.T) {
	const debian = "/usr/lib/postgresql/*/bin"
	initdb, postgres := find(t, "initdb", debian), find(t, "postgres", debian)
	port := localPort(t)
	address := net.JoinHostPort("127.0.0.1", port)
	s := newServer(t)
	data := filepath.Join(s.dir, "data")
	s.run(t, initdb, "--pgdata", data, "--auth", "trust", "--username", "postgres", "--no-sync")
	s.start(t, address, postgres, "-D", data, "-p", port, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-k", s.dir)

	config, err := pgx.ParseConfig("postgres://postgres@" + address + "/postgres?sslmode=disable")
	require.NoError(t, err)
	d := safedial.Dialer{Timeout: 5 * time.Second}
	config.DialFunc = d.DialContext
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn := connect(ctx, t, config)
	defer conn.Close(context.Background())
	var sum int
	require.NoError(t, conn.QueryRow(ctx, "SELECT $1::int + 1", 41).Scan(&sum))
	assert.Equal(t, 42, sum)
	assert.IsType(t, (*net.TCPConn)(nil), conn.PgConn().Conn())
	assert.False(t, safedial.IsSelfConnect(conn.PgConn().Conn()))
}

// connect waits until the server, which listens already, takes connections.
func connect(ctx context.Context, t *testing.T, config *pgx.ConnConfig) *pgx.Conn {
	t.Helper()
	for {
		conn, err := pgx.ConnectConfig(ctx, config)
		if err == nil {
			return conn
		}
		require.Contains(t, err.Error(), "57P03", "other than the database system is starting up")
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestWebSocket hands NetDialer to a package that takes nothing else.
func TestWebSocket(t *testing.T) {
	server := httptest.NewServer(websocket.Handler(func(conn *websocket.Conn) {
		var text string
		if websocket.Message.Receive(conn, &text) == nil {
			_ = websocket.Message.Send(conn, "re: "+text)
		}
	}))
	defer server.Close()
	config, err := websocket.NewConfig(strings.Replace(server.URL, "http", "ws", 1), server.URL)
	require.NoError(t, err)
	config.Dialer = (&safedial.Dialer{Timeout: 5 * time.Second}).NetDialer()
	conn, err := config.DialContext(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, websocket.Message.Send(conn, "hello"))
	var text string
	require.NoError(t, websocket.Message.Receive(conn, &text))
	assert.Equal(t, "re: hello", text)
}

// TestProxy has x/net/proxy forward through the Dialer, which is a proxy.Dialer
// and a proxy.ContextDialer as it is.
func TestProxy(t *testing.T) {
	var forward interface {
		proxy.Dialer
		proxy.ContextDialer
	} = &safedial.Dialer{Timeout: 5 * time.Second}
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	target, err := url.Parse(server.URL)
	require.NoError(t, err)

	perHost := proxy.NewPerHost(forward, proxy.Direct)
	conn, err := perHost.DialContext(t.Context(), "tcp", target.Host)
	require.NoError(t, err)
	defer conn.Close()
	assert.IsType(t, (*net.TCPConn)(nil), conn)
}
