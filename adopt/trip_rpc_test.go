package adopt

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"net/rpc"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	etcd "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/crypto/ssh"
	"golang.org/x/net/proxy"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/safedial/safedial"
)

func TestRoundTripGRPC(t *testing.T) {
	trip{
		server: "gRPC's",
		start: func(t *testing.T, address string) error {
			server := grpc.NewServer()
			healthpb.RegisterHealthServer(server, health.NewServer())
			t.Cleanup(server.Stop)
			return listen(t, address, func(l net.Listener) { _ = server.Serve(l) })
		},
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
			if d != nil {
				options = append(options, GRPC(d))
			}
			client, err := grpc.NewClient(address, options...)
			if err != nil {
				return err
			}
			defer client.Close()
			_, err = healthpb.NewHealthClient(client).Check(ctx, new(healthpb.HealthCheckRequest))
			return err
		},
	}.run(t)
}

func TestRoundTripEtcd(t *testing.T) {
	trip{
		server: "etcd", program: "etcd", debian: "etcd-server",
		start: func(t *testing.T, address string) error {
			p := process{dir: t.TempDir()}
			peers := "http://127.0.0.1:1" + port(t, address)[1:]
			return p.start(t, address, "etcd", "--data-dir", filepath.Join(p.dir, "data"), "--listen-client-urls", "http://"+address,
				"--advertise-client-urls", "http://"+address, "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers,
				"--initial-cluster", "default="+peers)
		},
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			config := etcd.Config{Endpoints: []string{address}, Logger: zap.NewNop()}
			if d != nil {
				Etcd(&config, d)
			}
			client, err := etcd.New(config)
			if err != nil {
				return err
			}
			defer client.Close()
			_, err = client.Put(ctx, "peer", "real")
			return err
		},
	}.run(t)
}

// Echo is a service of net/rpc.
type Echo struct{}

// Say returns what it gets.
func (Echo) Say(text string, reply *string) error {
	*reply = text
	return nil
}

func TestRoundTripNetRPC(t *testing.T) {
	trip{
		server: "net/rpc's",
		start: func(t *testing.T, address string) error {
			server := rpc.NewServer()
			require.NoError(t, server.Register(Echo{}))
			return listen(t, address, server.Accept)
		},
		call: func(_ context.Context, address string, d *safedial.Dialer) error {
			dial := func() (*rpc.Client, error) { return rpc.Dial("tcp", address) }
			if d != nil {
				dial = func() (*rpc.Client, error) { return NetRPC(d, address) }
			}
			client, err := dial()
			if err != nil {
				return err
			}
			defer client.Close()
			var reply string
			return client.Call("Echo.Say", "hello", &reply)
		},
	}.run(t)
}

func TestRoundTripSSH(t *testing.T) {
	trip{
		server: "x/crypto/ssh's",
		start:  startSSH,
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			config := &ssh.ClientConfig{User: "user", HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: time.Second}
			dial := func() (*ssh.Client, error) { return ssh.Dial("tcp", address, config) }
			if d != nil {
				dial = func() (*ssh.Client, error) { return SSH(ctx, d, address, config) }
			}
			client, err := dial()
			if err != nil {
				return err
			}
			return client.Close()
		},
	}.run(t)
}

func startSSH(t *testing.T, address string) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	require.NoError(t, err)
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	return listen(t, address, func(l net.Listener) {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				if server, _, requests, err := ssh.NewServerConn(conn, config); err == nil {
					go ssh.DiscardRequests(requests)
					_ = server.Wait()
				}
			}()
		}
	})
}

func TestRoundTripTLS(t *testing.T) {
	example := httptest.NewUnstartedServer(nil)
	example.StartTLS()
	defer example.Close()
	trip{
		server: "crypto/tls's",
		start: func(t *testing.T, address string) error {
			return listen(t, address, func(l net.Listener) {
				answer(tls.NewListener(l, &tls.Config{Certificates: example.TLS.Certificates}), "hello")
			})
		},
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			config := &tls.Config{RootCAs: pool(example), ServerName: "example.com"}
			dialer := &tls.Dialer{Config: config}
			if d != nil {
				dialer = TLS(d, config)
			}
			conn, err := dialer.DialContext(ctx, "tcp", address)
			if err != nil {
				return err
			}
			return expect(conn, "hello")
		},
	}.run(t)
}

func TestRoundTripProxy(t *testing.T) {
	trip{
		server: "microsocks", program: "microsocks", debian: "microsocks",
		start: func(t *testing.T, address string) error {
			_ = listen(t, "127.0.0.1:20000", func(l net.Listener) { answer(l, "hello") }) // for both legs
			return process{dir: t.TempDir()}.start(t, address, "microsocks", "-i", "127.0.0.1", "-p", port(t, address))
		},
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			socks, err := proxy.SOCKS5("tcp", address, nil, proxy.Direct)
			if d != nil {
				socks, err = Proxy(d, address, nil)
			}
			if err != nil {
				return err
			}
			conn, err := socks.(proxy.ContextDialer).DialContext(ctx, "tcp", "127.0.0.1:20000")
			if err != nil {
				return err
			}
			return expect(conn, "hello")
		},
	}.run(t)
}

// answer says the text to everybody.
func answer(l net.Listener, text string) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, text)
		_ = conn.Close()
	}
}

// expect reads the text from the connection, and closes it.
func expect(conn net.Conn, text string) error {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	got, err := io.ReadAll(conn)
	if err == nil && string(got) != text {
		err = errors.New("another answer: " + string(got))
	}
	return err
}
