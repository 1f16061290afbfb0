//go:build heavy

package clients

import (
	"context"

	"github.com/elastic/go-elasticsearch/v9"
	temporal "go.temporal.io/sdk/client"
	kubernetes "k8s.io/client-go/rest"
)

func init() {
	libraries = append(libraries,
		library{name: "Temporal", tls: true, call: callTemporal},
		library{name: "Kubernetes", tls: true, call: callKubernetes},
		library{name: "Elasticsearch", tls: true, call: callElasticsearch},
	)
}

func callTemporal(ctx context.Context, a attempt) error {
	options := temporal.Options{HostPort: a.address}
	options.ConnectionOptions.TLS = a.tls
	Temporal(&options, a.d)
	client, err := temporal.DialContext(ctx, options)
	if err == nil {
		client.Close()
	}
	return err
}

func callKubernetes(ctx context.Context, a attempt) error {
	config := &kubernetes.Config{Host: a.url("http")}
	Kubernetes(config, a.d)
	t, err := kubernetes.TransportFor(config)
	if err != nil {
		return err
	}
	return get(ctx, t, a.url("http"))
}

func callElasticsearch(ctx context.Context, a attempt) error {
	config := elasticsearch.Config{Addresses: []string{a.url("http")}}
	Elasticsearch(&config, transport(a.d))
	client, err := elasticsearch.NewClient(config)
	if err != nil {
		return err
	}
	response, err := client.Info(client.Info.WithContext(ctx))
	if err == nil {
		err = response.Body.Close()
	}
	return err
}
