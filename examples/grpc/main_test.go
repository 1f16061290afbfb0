package main

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/safedial/safedial"
)

func TestRun(t *testing.T) {
	if err := run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestTargets has grpc-go itself say what it hands to a custom dialer.
func TestTargets(t *testing.T) {
	t.Chdir(t.TempDir())
	dir, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	abstract := "safedial" + strings.ReplaceAll(dir, "/", "-")
	for _, c := range []struct{ target, network, address string }{
		{"dns:///%", "tcp", "127.0.0.1:0"},
		{"passthrough:///%", "tcp", "127.0.0.1:0"},
		{"%", "tcp", "127.0.0.1:0"},
		{"unix:relative", "unix", "relative"},
		{"unix://" + dir + "/absolute", "unix", "absolute"},
		{"unix:" + dir + "/other", "unix", "other"},
		{"passthrough:///unix://" + dir + "/passed", "unix", "passed"},
		{"unix-abstract:" + abstract, "unix", "@" + abstract},
	} {
		t.Run(c.target, func(t *testing.T) {
			l, err := net.Listen(c.network, c.address)
			if err != nil {
				t.Fatal(err)
			}
			server := grpc.NewServer()
			healthpb.RegisterHealthServer(server, health.NewServer())
			go server.Serve(l)
			defer server.Stop()
			check(t, strings.Replace(c.target, "%", l.Addr().String(), 1))
		})
	}
}

func check(t *testing.T, target string) {
	t.Helper()
	var d safedial.Dialer
	var mu sync.Mutex
	var seen []string
	client, err := grpc.NewClient(target,
		grpc.WithContextDialer(func(ctx context.Context, target string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, target)
			return d.DialTarget(ctx, target)
		}),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	answer, err := healthpb.NewHealthClient(client).Check(ctx, new(healthpb.HealthCheckRequest))
	mu.Lock()
	defer mu.Unlock()
	t.Logf("the dialer sees %q", seen)
	if err != nil {
		t.Fatal(err)
	}
	if answer.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("status %s", answer.Status)
	}
}
