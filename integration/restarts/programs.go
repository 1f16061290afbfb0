//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/safedial/safedial"
)

func programs() []program {
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS()
	certificate := certified.TLS.Certificates[0]
	roots := x509.NewCertPool()
	roots.AddCert(certified.Certificate())
	certified.Close()
	server := &tls.Config{Certificates: []tls.Certificate{certificate}}
	client := &tls.Config{RootCAs: roots, ServerName: "example.com"}
	return []program{
		{"TCP loop", greet, dialTCP},
		{"HTTP/2 with TLS", serveHTTP(server), getHTTP(client)},
		{"gRPC", serveGRPC, checkGRPC},
		{"go-redis with TLS", serveRedis(server), pingRedis(client)},
		{"pgx", servePostgres, connectPostgres},
	}
}

// accept hands each connection to serve, and resets it afterwards: the program is about the
// client's ports, and the server's connections should leave none in TIME_WAIT.
func accept(l net.Listener, serve func(conn net.Conn)) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			serve(conn)
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			conn.Close()
		}()
	}
}

func greet(l net.Listener) {
	accept(l, func(conn net.Conn) { _, _ = io.WriteString(conn, "hello\n") })
}

func dialTCP(ctx context.Context, address string, d *safedial.Dialer) {
	dial := new(net.Dialer).DialContext
	if d != nil {
		dial = d.DialContext
	}
	if conn, err := dial(ctx, "tcp", address); err == nil {
		_ = conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = conn.Read(make([]byte, 1))
		conn.Close()
	}
}

func serveHTTP(config *tls.Config) func(l net.Listener) {
	return func(l net.Listener) {
		s := &http.Server{
			Handler: http.NotFoundHandler(), TLSConfig: config.Clone(), ErrorLog: log.New(io.Discard, "", 0),
		}
		_ = s.ServeTLS(l, "", "")
		s.Close()
	}
}

func getHTTP(config *tls.Config) func(ctx context.Context, address string, d *safedial.Dialer) {
	return func(ctx context.Context, address string, d *safedial.Dialer) {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig = config.Clone()
		if d != nil {
			t.DialContext = d.DialContext
		}
		client := &http.Client{Transport: t, Timeout: time.Second}
		request, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address, nil)
		if response, err := client.Do(request); err == nil {
			response.Body.Close()
		}
		t.CloseIdleConnections()
	}
}

func serveGRPC(l net.Listener) {
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, health.NewServer())
	_ = s.Serve(l) // ends when the listener is closed
	s.Stop()
}

func checkGRPC(ctx context.Context, address string, d *safedial.Dialer) {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(
			grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: time.Millisecond, MaxDelay: time.Millisecond}},
		),
	}
	if d != nil {
		options = append(options, grpc.WithContextDialer(d.DialTarget))
	}
	conn, err := grpc.NewClient("passthrough:///"+address, options...)
	if err != nil {
		return
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, _ = healthpb.NewHealthClient(conn).Check(ctx, new(healthpb.HealthCheckRequest), grpc.WaitForReady(true))
}

// serveRedis answers as redis does to a client that says hello and pings.
func serveRedis(config *tls.Config) func(l net.Listener) {
	return func(l net.Listener) {
		accept(l, func(raw net.Conn) {
			conn := tls.Server(raw, config)
			buffer := make([]byte, 4096)
			for {
				if _, err := conn.Read(buffer); err != nil {
					return
				}
				if _, err := io.WriteString(conn, "+PONG\r\n"); err != nil {
					return
				}
			}
		})
	}
}

func pingRedis(config *tls.Config) func(ctx context.Context, address string, d *safedial.Dialer) {
	return func(ctx context.Context, address string, d *safedial.Dialer) {
		options := &redis.Options{
			Addr:            address,
			TLSConfig:       config.Clone(),
			MaxRetries:      -1,
			Protocol:        2,
			DisableIdentity: true,
		}
		if d != nil {
			options.Dialer = (&tls.Dialer{NetDialer: d.NetDialer(), Config: config}).DialContext
		}
		redis.SetLogger(silent{})
		client := redis.NewClient(options)
		_ = client.Ping(ctx).Err()
		client.Close()
	}
}

// silent drops what go-redis logs.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// servePostgres answers as PostgreSQL does to a client that is trusted.
func servePostgres(l net.Listener) {
	accept(l, func(conn net.Conn) {
		backend := pgproto3.NewBackend(conn, conn)
		if _, err := backend.ReceiveStartupMessage(); err != nil {
			return
		}
		backend.Send(&pgproto3.AuthenticationOk{})
		backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		if backend.Flush() == nil {
			_, _ = backend.Receive()
		}
	})
}

func connectPostgres(ctx context.Context, address string, d *safedial.Dialer) {
	config, err := pgx.ParseConfig("postgres://user@" + address + "/database?sslmode=disable&connect_timeout=1")
	if err != nil {
		return
	}
	if d != nil {
		config.DialFunc = d.DialContext
	}
	if conn, err := pgx.ConnectConfig(ctx, config); err == nil {
		_ = conn.Close(ctx)
	}
}
