package clients

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"net"
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
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/safedial/safedial"
)

var rpcLibraries = []library{
	{name: "GRPC", server: grpcServer, tls: true, call: callGRPC},
	{name: "Etcd", server: etcdServer, tls: true, call: callEtcd},
	{name: "NetRPC", server: netRPCServer, call: callNetRPC},
	{name: "SSH", server: sshServer, call: callSSH},
	{name: "TLS", server: tlsServer, tls: true, call: callTLS},
	{name: "Proxy", server: proxyServer, call: callProxy},
}

func callGRPC(ctx context.Context, a attempt) error {
	creds := insecure.NewCredentials()
	if a.tls != nil {
		creds = credentials.NewTLS(a.tls)
	}
	options := []grpc.DialOption{grpc.WithTransportCredentials(creds)}
	if a.d != nil {
		options = append(options, GRPC(a.d))
	}
	client, err := grpc.NewClient(a.address, options...)
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = healthpb.NewHealthClient(client).Check(ctx, new(healthpb.HealthCheckRequest))
	return err
}

func callEtcd(ctx context.Context, a attempt) error {
	config := etcd.Config{Endpoints: []string{a.address}, TLS: a.tls, Logger: zap.NewNop()}
	if a.d != nil {
		Etcd(&config, a.d)
	}
	client, err := etcd.New(config)
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = client.Put(ctx, "peer", "real")
	return err
}

func callNetRPC(_ context.Context, a attempt) error {
	dial := func() (*rpc.Client, error) { return rpc.Dial("tcp", a.address) }
	if a.d != nil {
		dial = func() (*rpc.Client, error) { return NetRPC(a.d, a.address) }
	}
	client, err := dial()
	if err != nil {
		return err
	}
	defer client.Close()
	var reply string
	return client.Call("Echo.Say", "hello", &reply)
}

func callSSH(ctx context.Context, a attempt) error {
	config := &ssh.ClientConfig{
		User: "user", HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: time.Second,
	}
	dial := func() (*ssh.Client, error) { return ssh.Dial("tcp", a.address, config) }
	if a.d != nil {
		dial = func() (*ssh.Client, error) { return SSH(ctx, a.d, a.address, config) }
	}
	client, err := dial()
	if err != nil {
		return err
	}
	return client.Close()
}

func callTLS(ctx context.Context, a attempt) error {
	dialer := &tls.Dialer{Config: exampleTLS()}
	if a.d != nil {
		dialer = TLS(a.d, exampleTLS())
	}
	conn, err := dialer.DialContext(ctx, "tcp", a.address)
	if err != nil {
		return err
	}
	return expect(conn, "hello")
}

// A Dialer is both of x/net/proxy's dialers as it is.
var _ interface {
	proxy.Dialer
	proxy.ContextDialer
} = (*safedial.Dialer)(nil)

// behindProxy is the address that the proxy dials.
const behindProxy = "127.0.0.1:20000"

func callProxy(ctx context.Context, a attempt) error {
	socks, err := proxy.SOCKS5("tcp", a.address, nil, proxy.Direct)
	if a.d != nil {
		socks, err = Proxy(a.d, a.address, nil)
	}
	if err != nil {
		return err
	}
	conn, err := socks.(proxy.ContextDialer).DialContext(ctx, "tcp", behindProxy)
	if err != nil {
		return err
	}
	return expect(conn, "hello")
}

var grpcServer = server{
	name: "gRPC's",
	start: func(t *testing.T, address string) error {
		s := grpc.NewServer()
		healthpb.RegisterHealthServer(s, health.NewServer())
		t.Cleanup(s.Stop)
		return listen(t, address, func(l net.Listener) { _ = s.Serve(l) })
	},
}

var etcdServer = server{
	name: "etcd", program: "etcd", debian: "etcd-server",
	start: func(t *testing.T, address string) error {
		p := newProcess(t)
		own, peers := "http://"+address, "http://127.0.0.1:1"+port(t, address)[1:]
		return p.start(t, address, "etcd", "--data-dir", filepath.Join(p.dir, "data"),
			"--listen-client-urls", own, "--advertise-client-urls", own,
			"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers,
			"--initial-cluster", "default="+peers)
	},
}

// Echo is a service of net/rpc.
type Echo struct{}

// Say returns what it gets.
func (Echo) Say(text string, reply *string) error {
	*reply = text
	return nil
}

var netRPCServer = server{
	name: "net/rpc's",
	start: func(t *testing.T, address string) error {
		s := rpc.NewServer()
		require.NoError(t, s.Register(Echo{}))
		return listen(t, address, s.Accept)
	},
}

var sshServer = server{
	name: "x/crypto/ssh's",
	start: func(t *testing.T, address string) error {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		require.NoError(t, err)
		signer, err := ssh.NewSignerFromKey(key)
		require.NoError(t, err)
		config := &ssh.ServerConfig{NoClientAuth: true}
		config.AddHostKey(signer)
		return serve(t, address, func(conn net.Conn) {
			if s, _, requests, err := ssh.NewServerConn(conn, config); err == nil {
				go ssh.DiscardRequests(requests)
				_ = s.Wait()
			}
		})
	},
}

var tlsServer = server{
	name: "crypto/tls's",
	start: func(t *testing.T, address string) error {
		certificate, _ := exampleCertificate()
		config := &tls.Config{Certificates: []tls.Certificate{certificate}}
		return serve(t, address, func(conn net.Conn) {
			defer conn.Close()
			secure := tls.Server(conn, config)
			_, _ = secure.Write([]byte("hello"))
			_ = secure.Close()
		})
	},
}

var proxyServer = server{
	name: "microsocks", program: "microsocks", debian: "microsocks",
	start: func(t *testing.T, address string) error {
		// The second round trip of a test finds the server of the first.
		_ = serve(t, behindProxy, func(conn net.Conn) {
			_, _ = conn.Write([]byte("hello"))
			_ = conn.Close()
		})
		return newProcess(t).start(t, address, "microsocks", "-i", "127.0.0.1", "-p",
			port(t, address))
	},
}
