package adopt

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/go-resty/resty/v2"
	gorilla "github.com/gorilla/websocket"
	influx "github.com/influxdata/influxdb-client-go/v2"
	"github.com/valyala/fasthttp"
	xwebsocket "golang.org/x/net/websocket"

	"github.com/safedial/safedial"
)

// listen listens until the test ends.
func listen(t *testing.T, address string, serve func(net.Listener)) error {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	t.Cleanup(func() { _ = l.Close() })
	go serve(l)
	return nil
}

// startHTTP starts a server that says hello.
func startHTTP(t *testing.T, address string) error {
	return startHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	}))(t, address)
}

func startHandler(handler http.Handler) func(*testing.T, string) error {
	return func(t *testing.T, address string) error {
		return listen(t, address, func(l net.Listener) { _ = http.Serve(l, handler) })
	}
}

// transport returns the one of the page, or the library's.
func transport(d *safedial.Dialer) *http.Transport {
	if d == nil {
		return http.DefaultTransport.(*http.Transport).Clone()
	}
	return HTTP(d)
}

func TestRoundTripHTTP(t *testing.T) {
	trip{
		server: "net/http's",
		start:  startHTTP,
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			return get(ctx, transport(d), "http://"+address)
		},
	}.run(t)
}

// get gets a page.
func get(ctx context.Context, t *http.Transport, url string) error {
	defer t.CloseIdleConnections()
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

func TestRoundTripResty(t *testing.T) {
	trip{
		server: "net/http's",
		start:  startHTTP,
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			client := resty.New()
			if d != nil {
				Resty(client, HTTP(d))
			}
			_, err := client.R().SetContext(ctx).Get("http://" + address)
			return err
		},
	}.run(t)
}

func TestRoundTripInfluxDB(t *testing.T) {
	trip{
		server: "InfluxDB 1.6", program: "influxd", debian: "influxdb",
		start: func(t *testing.T, address string) error {
			p := process{dir: t.TempDir()}
			return p.start(t, address, "influxd", "-config", p.write(t, "conf", "reporting-disabled = true\nbind-address = \"127.0.0.1:1%s\"\n"+
				"[meta]\ndir = \"%s/meta\"\n[data]\ndir = \"%s/data\"\nwal-dir = \"%s/wal\"\n[http]\nbind-address = \"%s\"\n",
				port(t, address)[1:], p.dir, p.dir, p.dir, address))
		},
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			options := influx.DefaultOptions()
			if d != nil {
				InfluxDB(options, HTTP(d))
			}
			client := influx.NewClientWithOptions("http://"+address, "", options)
			defer client.Close()
			_, err := client.Ping(ctx)
			return err
		},
	}.run(t)
}

func TestRoundTripFastHTTP(t *testing.T) {
	trip{
		server: "fasthttp's",
		start: func(t *testing.T, address string) error {
			return listen(t, address, func(l net.Listener) {
				_ = fasthttp.Serve(l, func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString("hello") })
			})
		},
		call: func(_ context.Context, address string, d *safedial.Dialer) error {
			var client fasthttp.Client
			if d != nil {
				FastHTTP(&client, d)
			}
			_, _, err := client.GetTimeout(nil, "http://"+address, time.Second)
			return err
		},
	}.run(t)
}

func TestRoundTripCoderWebSocket(t *testing.T) {
	trip{
		server: "coder/websocket's",
		start: startHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, err := websocket.Accept(w, r, nil)
			if err == nil {
				_ = conn.Write(r.Context(), websocket.MessageText, []byte("hello"))
			}
		})),
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			var options websocket.DialOptions
			CoderWebSocket(&options, transport(d))
			conn, _, err := websocket.Dial(ctx, "ws://"+address, &options)
			if err != nil {
				return err
			}
			defer conn.CloseNow()
			_, _, err = conn.Read(ctx)
			return err
		},
	}.run(t)
}

func TestRoundTripGorillaWebSocket(t *testing.T) {
	trip{
		server: "gorilla/websocket's",
		start: startHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var upgrader gorilla.Upgrader
			conn, err := upgrader.Upgrade(w, r, nil)
			if err == nil {
				_ = conn.WriteMessage(gorilla.TextMessage, []byte("hello"))
			}
		})),
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			dialer := gorilla.DefaultDialer
			if d != nil {
				dialer = GorillaWebSocket(d)
			}
			conn, _, err := dialer.DialContext(ctx, "ws://"+address, nil)
			if err != nil {
				return err
			}
			defer conn.Close()
			_, _, err = conn.ReadMessage()
			return err
		},
	}.run(t)
}

func TestRoundTripNetWebSocket(t *testing.T) {
	trip{
		server: "x/net/websocket's",
		start: startHandler(xwebsocket.Handler(func(conn *xwebsocket.Conn) {
			_ = xwebsocket.Message.Send(conn, "hello")
		})),
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			config, err := xwebsocket.NewConfig("ws://"+address, "http://"+address)
			if err != nil {
				return err
			}
			if d != nil {
				NetWebSocket(config, d)
			}
			conn, err := config.DialContext(ctx)
			if err != nil {
				return err
			}
			defer conn.Close()
			var text string
			if err := xwebsocket.Message.Receive(conn, &text); err != nil {
				return err
			}
			if text != "hello" {
				return fmt.Errorf("answer %q", text)
			}
			return nil
		},
	}.run(t)
}
