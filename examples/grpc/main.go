// Command grpc starts a gRPC health service and a client of it on this machine,
// over TCP and over a Unix socket. The client comes first and reconnects until
// the server is up. The server's port is one that the kernel may pick as a local
// port, where a client of net.Dialer can keep its own server from starting.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/safedial/safedial"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "grpc:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	address, err := freeAddress()
	if err != nil {
		return err
	}
	if err := roundTrip(ctx, "dns:///"+address, "tcp", address); err != nil {
		return fmt.Errorf("over TCP: %w", err)
	}
	dir, err := os.MkdirTemp("", "safedial")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "health.sock")
	if err := roundTrip(ctx, "unix://"+socket, "unix", socket); err != nil {
		return fmt.Errorf("over a Unix socket: %w", err)
	}
	return nil
}

// freeAddress returns a loopback address whose port nobody has, of those that
// the kernel picks local ports from.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// roundTrip has a client wait for a server that starts later, and asks it how it is.
func roundTrip(ctx context.Context, target, network, address string) error {
	retries := 0
	d := safedial.Dialer{OnRetry: func(context.Context, safedial.Retry) { retries++ }}
	client, err := grpc.NewClient(target,
		grpc.WithContextDialer(d.DialTarget),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{
			BaseDelay: 5 * time.Millisecond, Multiplier: 1, MaxDelay: 5 * time.Millisecond,
		}}))
	if err != nil {
		return err
	}
	defer client.Close()

	server := grpc.NewServer()
	defer server.Stop()
	service := health.NewServer()
	healthpb.RegisterHealthServer(server, service)
	started := make(chan error, 1)
	time.AfterFunc(300*time.Millisecond, func() {
		l, err := net.Listen(network, address)
		started <- err
		if err == nil {
			_ = server.Serve(l)
		}
	})

	start := time.Now()
	answer, err := healthpb.NewHealthClient(client).Check(ctx, new(healthpb.HealthCheckRequest), grpc.WaitForReady(true))
	if listenErr := <-started; listenErr != nil {
		return fmt.Errorf("the server did not start: %w", listenErr)
	}
	if err != nil {
		return err
	}
	fmt.Printf(
		"%s: %s after %s, dials repeated: %d\n",
		target,
		answer.Status,
		time.Since(start).Round(time.Millisecond),
		retries,
	)
	return nil
}
