//go:build heavy

package clients

import (
	"net/http"

	"github.com/elastic/go-elasticsearch/v9"
	temporal "go.temporal.io/sdk/client"
	"google.golang.org/grpc"
	kubernetes "k8s.io/client-go/rest"

	"github.com/safedial/safedial"
)

// Temporal is go.temporal.io/sdk.
//
// TLS: the library's
// Timeouts: the library's, gRPC's; d's Timeout holds too
// Keep-alive: d's; the library's KeepAliveTime too
// Proxies: none; the environment's proxy is not used
func Temporal(options *temporal.Options, d *safedial.Dialer) {
	c := &options.ConnectionOptions
	c.DialOptions = append(c.DialOptions, grpc.WithContextDialer(d.DialTarget))
}

// Kubernetes is k8s.io/client-go.
//
// TLS: the library's
// Timeouts: d's; Config.Timeout holds too
// Keep-alive: d's
// Proxies: the library's; d dials the proxy
func Kubernetes(config *kubernetes.Config, d *safedial.Dialer) {
	config.Dial = d.DialContext
}

// Elasticsearch is github.com/elastic/go-elasticsearch/v9.
//
// TLS: the library's
// Timeouts: d's
// Keep-alive: d's
// Proxies: the library's; d dials the proxy
// Note: t is net/http's, above
func Elasticsearch(config *elasticsearch.Config, t *http.Transport) {
	config.Transport = t
}
