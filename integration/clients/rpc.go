package clients

import (
	"context"
	"crypto/tls"
	"net/rpc"

	etcd "go.etcd.io/etcd/client/v3"
	"golang.org/x/crypto/ssh"
	"golang.org/x/net/proxy"
	"google.golang.org/grpc"

	"github.com/safedial/safedial"
)

// GRPC is google.golang.org/grpc.
//
// TLS: the library's
// Timeouts: the library's, ConnectParams.MinConnectTimeout; d's Timeout holds too
// Keep-alive: d's; the library's HTTP/2 pings too
// Proxies: none; the environment's proxy is not used
func GRPC(d *safedial.Dialer) grpc.DialOption {
	return grpc.WithContextDialer(d.DialTarget)
}

// Etcd is go.etcd.io/etcd/client/v3.
//
// TLS: the library's
// Timeouts: the library's, gRPC's; d's Timeout holds too
// Keep-alive: d's; the library's DialKeepAliveTime too
// Proxies: none; the environment's proxy is not used
func Etcd(config *etcd.Config, d *safedial.Dialer) {
	config.DialOptions = append(config.DialOptions, grpc.WithContextDialer(d.DialTarget))
}

// NetRPC is net/rpc.
//
// TLS: yours
// Timeouts: d's
// Keep-alive: d's
// Proxies: none
// Note: rpc.Dial and rpc.DialHTTP take no dialer
func NetRPC(d *safedial.Dialer, address string) (*rpc.Client, error) {
	conn, err := d.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return rpc.NewClient(conn), nil
}

// SSH is golang.org/x/crypto/ssh.
//
// TLS: none; SSH encrypts
// Timeouts: d's; ClientConfig.Timeout does not apply, and the handshake has none
// Keep-alive: d's
// Proxies: none
// Note: ssh.Dial takes no dialer
func SSH(
	ctx context.Context, d *safedial.Dialer, address string, config *ssh.ClientConfig,
) (*ssh.Client, error) {
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c, channels, requests, err := ssh.NewClientConn(conn, address, config)
	if err != nil {
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}

// TLS is crypto/tls.
//
// TLS: the library's
// Timeouts: d's, which include the handshake
// Keep-alive: d's
// Proxies: none
func TLS(d *safedial.Dialer, config *tls.Config) *tls.Dialer {
	return &tls.Dialer{NetDialer: d.NetDialer(), Config: config}
}

// Proxy is golang.org/x/net/proxy.
//
// TLS: yours
// Timeouts: d's, to the proxy
// Keep-alive: d's
// Proxies: the library's; d dials the proxy
func Proxy(d *safedial.Dialer, address string, auth *proxy.Auth) (proxy.Dialer, error) {
	return proxy.SOCKS5("tcp", address, auth, d)
}
