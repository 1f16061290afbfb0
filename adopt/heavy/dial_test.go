package heavy

import (
	"context"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/elastic/go-elasticsearch/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	temporal "go.temporal.io/sdk/client"
	kubernetes "k8s.io/client-go/rest"

	"github.com/safedial/safedial"
)

// dialings are the libraries, and whether their dials have a deadline.
var dialings = map[string]struct {
	deadline bool
	call     func(ctx context.Context, address string, d *safedial.Dialer) error
}{
	"Temporal": {true, func(_ context.Context, address string, d *safedial.Dialer) error {
		options := temporal.Options{HostPort: address}
		Temporal(&options, d)
		client, err := temporal.Dial(options)
		if err == nil {
			client.Close()
		}
		return err
	}},
	"Kubernetes": {false, func(_ context.Context, address string, d *safedial.Dialer) error {
		config := &kubernetes.Config{Host: "http://" + address}
		Kubernetes(config, d)
		client, err := kubernetes.HTTPClientFor(config)
		if err != nil {
			return err
		}
		response, err := client.Get("http://" + address)
		if err == nil {
			_ = response.Body.Close()
		}
		return err
	}},
	"Elasticsearch": {false, func(ctx context.Context, address string, d *safedial.Dialer) error {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.DialContext = d.DialContext
		config := elasticsearch.Config{Addresses: []string{"http://" + address}}
		Elasticsearch(&config, t)
		client, err := elasticsearch.NewClient(config)
		if err != nil {
			return err
		}
		response, err := client.Info(client.Info.WithContext(ctx))
		if err == nil {
			_ = response.Body.Close()
		}
		return err
	}},
}

// TestDials sees that the libraries dial by safedial, and with a deadline where the
// page says so.
func TestDials(t *testing.T) {
	for library, c := range dialings {
		t.Run(library, func(t *testing.T) {
			dialed := make(chan bool, 1)
			d := safedial.Dialer{ControlContext: func(ctx context.Context, _, _ string, _ syscall.RawConn) error {
				_, ok := ctx.Deadline()
				select {
				case dialed <- ok:
				default: // another dial has told
				}
				return nil
			}}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() { _ = c.call(ctx, net.JoinHostPort("127.0.0.1", "1"), &d) }()
			select {
			case deadline := <-dialed:
				assert.Equal(t, c.deadline, deadline)
			case <-time.After(10 * time.Second):
				require.Fail(t, "the library does not dial by safedial")
			}
		})
	}
}
