package clients

import (
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"github.com/go-resty/resty/v2"
	gorilla "github.com/gorilla/websocket"
	consul "github.com/hashicorp/consul/api"
	vault "github.com/hashicorp/vault/api"
	influx "github.com/influxdata/influxdb-client-go/v2"
	"github.com/minio/minio-go/v7"
	"github.com/moby/moby/client"
	"github.com/valyala/fasthttp"
	xwebsocket "golang.org/x/net/websocket"

	"github.com/safedial/safedial"
)

// HTTP is net/http.
//
// TLS: the library's
// Timeouts: d's; Client.Timeout holds too
// Keep-alive: d's
// Proxies: the library's; d dials the proxy
// Note: a Transport made from nothing speaks no HTTP/2 and uses no proxy
func HTTP(d *safedial.Dialer) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = d.DialContext
	return t
}

// Resty is github.com/go-resty/resty/v2.
//
// TLS: the library's
// Timeouts: d's; Client.SetTimeout holds too
// Keep-alive: d's
// Proxies: the library's; d dials the proxy
// Note: t is net/http's, above
func Resty(client *resty.Client, t *http.Transport) {
	client.SetTransport(t)
}

// Minio is github.com/minio/minio-go/v7.
//
// TLS: the library's
// Timeouts: d's
// Keep-alive: d's
// Proxies: the library's; d dials the proxy
// Note: t is net/http's, above
func Minio(options *minio.Options, t *http.Transport) {
	options.Transport = t
}

// InfluxDB is github.com/influxdata/influxdb-client-go/v2.
//
// TLS: t's
// Timeouts: d's; Options.HTTPRequestTimeout does not apply
// Keep-alive: d's
// Proxies: t's; d dials the proxy
// Note: t is net/http's, above
func InfluxDB(options *influx.Options, t *http.Transport) {
	options.SetHTTPClient(&http.Client{Transport: t, Timeout: 20 * time.Second})
}

// Consul is github.com/hashicorp/consul/api.
//
// TLS: the library's
// Timeouts: d's
// Keep-alive: d's
// Proxies: the library's; d dials the proxy
// Note: config is a DefaultConfig
func Consul(config *consul.Config, d *safedial.Dialer) {
	config.Transport.DialContext = d.DialContext
}

// Vault is github.com/hashicorp/vault/api.
//
// TLS: the library's
// Timeouts: d's; Config.Timeout holds too
// Keep-alive: d's
// Proxies: the library's; d dials the proxy
// Note: config is a DefaultConfig
func Vault(config *vault.Config, d *safedial.Dialer) {
	config.HttpClient.Transport.(*http.Transport).DialContext = d.DialContext
}

// FastHTTP is github.com/valyala/fasthttp.
//
// TLS: the library's
// Timeouts: d's; a request's timeout does not bound the dial
// Keep-alive: d's
// Proxies: none; fasthttpproxy's dialers replace this one
func FastHTTP(client *fasthttp.Client, d *safedial.Dialer) {
	client.Dial = func(address string) (net.Conn, error) { return d.Dial("tcp", address) }
}

// CoderWebSocket is github.com/coder/websocket.
//
// TLS: the library's
// Timeouts: d's
// Keep-alive: d's
// Proxies: the library's; d dials the proxy
// Note: t is net/http's, above
func CoderWebSocket(options *websocket.DialOptions, t *http.Transport) {
	options.HTTPClient = &http.Client{Transport: t}
}

// GorillaWebSocket is github.com/gorilla/websocket.
//
// TLS: the library's
// Timeouts: the library's, HandshakeTimeout; d's Timeout holds too
// Keep-alive: d's
// Proxies: the library's, if Proxy is set; d dials the proxy
// Note: a copy of DefaultDialer keeps its HandshakeTimeout and Proxy
func GorillaWebSocket(d *safedial.Dialer) *gorilla.Dialer {
	dialer := *gorilla.DefaultDialer
	dialer.NetDialContext = d.DialContext
	return &dialer
}

// NetWebSocket is golang.org/x/net/websocket.
//
// TLS: the library's
// Timeouts: d's
// Keep-alive: d's
// Proxies: none
func NetWebSocket(config *xwebsocket.Config, d *safedial.Dialer) {
	config.Dialer = d.NetDialer()
}

// Moby is github.com/moby/moby/client.
//
// TLS: the library's
// Timeouts: d's
// Keep-alive: d's
// Proxies: the library's; d dials the proxy
// Note: after WithHost, for tcp: hosts
func Moby(d *safedial.Dialer) client.Opt {
	return client.WithDialContext(d.DialContext)
}
