package clients

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/go-resty/resty/v2"
	gorilla "github.com/gorilla/websocket"
	consul "github.com/hashicorp/consul/api"
	vault "github.com/hashicorp/vault/api"
	influx "github.com/influxdata/influxdb-client-go/v2"
	"github.com/minio/minio-go/v7"
	moby "github.com/moby/moby/client"
	"github.com/valyala/fasthttp"
	xwebsocket "golang.org/x/net/websocket"

	"github.com/safedial/safedial"
)

var httpLibraries = []library{
	{name: "HTTP", server: httpServer, tls: true, call: callHTTP},
	{name: "Resty", server: httpServer, tls: true, call: callResty},
	{name: "Minio", tls: true, call: callMinio},
	{name: "InfluxDB", server: influxServer, tls: true, call: callInfluxDB},
	{name: "Consul", tls: true, call: callConsul},
	{name: "Vault", tls: true, call: callVault},
	{name: "FastHTTP", server: fastHTTPServer, tls: true, call: callFastHTTP},
	{name: "CoderWebSocket", server: coderServer, tls: true, call: callCoderWebSocket},
	{name: "GorillaWebSocket", server: gorillaServer, tls: true, call: callGorillaWebSocket},
	{name: "NetWebSocket", server: xwebsocketServer, tls: true, call: callNetWebSocket},
	{name: "Moby", tls: true, call: callMoby},
}

func callHTTP(ctx context.Context, a attempt) error {
	t := transport(a.d)
	defer t.CloseIdleConnections()
	return get(ctx, t, a.url("http"))
}

func callResty(ctx context.Context, a attempt) error {
	client := resty.New()
	if a.d != nil {
		Resty(client, HTTP(a.d))
	}
	_, err := client.R().SetContext(ctx).Get(a.url("http"))
	return err
}

func callMinio(ctx context.Context, a attempt) error {
	options := minio.Options{Secure: a.tls != nil}
	Minio(&options, transport(a.d))
	client, err := minio.New(a.address, &options)
	if err != nil {
		return err
	}
	_, err = client.ListBuckets(ctx)
	return err
}

func callInfluxDB(ctx context.Context, a attempt) error {
	options := influx.DefaultOptions()
	if a.d != nil {
		InfluxDB(options, HTTP(a.d))
	}
	client := influx.NewClientWithOptions(a.url("http"), "", options)
	defer client.Close()
	_, err := client.Ping(ctx)
	return err
}

func callConsul(ctx context.Context, a attempt) error {
	config := consul.DefaultConfig()
	config.Address = a.url("http")
	Consul(config, a.d)
	client, err := consul.NewClient(config)
	if err != nil {
		return err
	}
	_, err = client.Status().LeaderWithQueryOptions(new(consul.QueryOptions).WithContext(ctx))
	return err
}

func callVault(ctx context.Context, a attempt) error {
	config := vault.DefaultConfig()
	config.Address = a.url("http")
	Vault(config, a.d)
	client, err := vault.NewClient(config)
	if err != nil {
		return err
	}
	_, err = client.Sys().HealthWithContext(ctx)
	return err
}

func callFastHTTP(_ context.Context, a attempt) error {
	var client fasthttp.Client
	if a.d != nil {
		FastHTTP(&client, a.d)
	}
	_, _, err := client.GetTimeout(nil, a.url("http"), time.Second)
	return err
}

func callCoderWebSocket(ctx context.Context, a attempt) error {
	var options websocket.DialOptions
	CoderWebSocket(&options, transport(a.d))
	conn, _, err := websocket.Dial(ctx, a.url("ws"), &options)
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	_, _, err = conn.Read(ctx)
	return err
}

func callGorillaWebSocket(ctx context.Context, a attempt) error {
	dialer := gorilla.DefaultDialer
	if a.d != nil {
		dialer = GorillaWebSocket(a.d)
	}
	conn, _, err := dialer.DialContext(ctx, a.url("ws"), nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, _, err = conn.ReadMessage()
	return err
}

func callNetWebSocket(ctx context.Context, a attempt) error {
	config, err := xwebsocket.NewConfig(a.url("ws"), a.url("http"))
	if err != nil {
		return err
	}
	if a.d != nil {
		NetWebSocket(config, a.d)
	}
	conn, err := config.DialContext(ctx)
	if err != nil {
		return err
	}
	return expect(conn, "hello")
}

func callMoby(ctx context.Context, a attempt) error {
	own := moby.WithHTTPClient(&http.Client{Transport: &http.Transport{TLSClientConfig: a.tls}})
	client, err := moby.New(own, moby.WithHost("tcp://"+a.address), Moby(a.d))
	if err != nil {
		return err
	}
	_, err = client.Ping(ctx, moby.PingOptions{})
	return err
}

var httpServer = server{
	name: "net/http's",
	start: handle(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	}),
}

var influxServer = server{
	name: "InfluxDB 1.6", program: "influxd", debian: "influxdb",
	start: func(t *testing.T, address string) error {
		p := newProcess(t)
		config := p.write(t, "conf", `
			reporting-disabled = true
			bind-address = "127.0.0.1:1%s"
			[meta]
			dir = "%s/meta"
			[data]
			dir = "%s/data"
			wal-dir = "%s/wal"
			[http]
			bind-address = "%s"
			`, port(t, address)[1:], p.dir, p.dir, p.dir, address)
		return p.start(t, address, "influxd", "-config", config)
	},
}

var fastHTTPServer = server{
	name: "fasthttp's",
	start: func(t *testing.T, address string) error {
		return listen(t, address, func(l net.Listener) {
			_ = fasthttp.Serve(l, func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString("hello") })
		})
	},
}

var coderServer = server{
	name: "coder/websocket's",
	start: handle(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err == nil {
			_ = conn.Write(r.Context(), websocket.MessageText, []byte("hello"))
		}
	}),
}

var gorillaServer = server{
	name: "gorilla/websocket's",
	start: handle(func(w http.ResponseWriter, r *http.Request) {
		conn, err := new(gorilla.Upgrader).Upgrade(w, r, nil)
		if err == nil {
			_ = conn.WriteMessage(gorilla.TextMessage, []byte("hello"))
		}
	}),
}

var xwebsocketServer = server{
	name: "x/net/websocket's",
	start: handle(xwebsocket.Handler(func(conn *xwebsocket.Conn) {
		_, _ = io.WriteString(conn, "hello")
	}).ServeHTTP),
}

// transport returns the one of the page, or net/http's.
func transport(d *safedial.Dialer) *http.Transport {
	if d == nil {
		return http.DefaultTransport.(*http.Transport).Clone()
	}
	return HTTP(d)
}

// get gets a page.
func get(ctx context.Context, t http.RoundTripper, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: t}).Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// handle returns the start of an HTTP server.
func handle(handler http.HandlerFunc) func(*testing.T, string) error {
	return func(t *testing.T, address string) error {
		return listen(t, address, func(l net.Listener) { _ = http.Serve(l, handler) })
	}
}
