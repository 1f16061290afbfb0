package clients

import (
	"context"
	"crypto/tls"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/miekg/dns"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
)

func left(ctx context.Context, url string, config *tls.Config) {
	grpc.NewClient("a:80")                // want `grpc.NewClient does not use safedial; left as it is: it dials by itself; write grpc.WithContextDialer\(d.DialTarget\)`
	_ = &redis.Options{}                  // want `redis.Options does not use safedial; left as it is: it dials by itself; write options.Dialer = d.DialContext \(`
	_ = &redis.Options{TLSConfig: config} // want `it dials by itself; write options.Dialer = \(&tls.Dialer{NetDialer: d.NetDialer\(\), Config: config}\).DialContext \(`
	_ = []*redis.Options{{}}              // want `redis.Options does not use safedial`
	options, _ := redis.ParseURL(url)     // want `redis.ParseURL does not use safedial; .*; write options.Dialer = d.DialContext .*; but if it uses TLS, write options.Dialer = \(&tls.Dialer`
	redis.NewClient(options)
	plain, _ := redis.ParseURL("redis://a:6379") // want `redis.ParseURL does not use safedial; left as it is: it dials by itself; write options.Dialer = d.DialContext \([^;]*$`
	secure, _ := redis.ParseURL(url)             // want `it dials by itself; write options.Dialer = \(&tls.Dialer[^;]*$`
	secure.TLSConfig = config
	redis.NewClient(plain)
	parsed, _ := pgx.ParseConfig(url) // want `pgx.ParseConfig does not use safedial; left as it is: it dials by itself; write config.DialFunc = d.DialContext`
	pgx.ConnectConfig(ctx, parsed)
	pgx.Connect(ctx, url)    // want `pgx.Connect does not use safedial`
	pgconn.Connect(ctx, url) // want `pgconn.Connect does not use safedial`
	_ = new(dns.Client)      // want `dns.Client does not use safedial; left as it is: it dials by itself; write client.Dialer = d.NetDialer\(\)`
	_ = &dns.Client{}        // want `dns.Client does not use safedial`
	var zero dns.Client      // want `dns.Client does not use safedial`
	zero.Net = "tcp"
}

type server struct {
	client dns.Client // want `dns.Client does not use safedial`
	cured  dns.Client
}

func (s *server) start() { s.cured.Dialer = nil }

func cured(ctx context.Context, url string, dial func(), given []grpc.DialOption) {
	grpc.NewClient("a:80", grpc.WithContextDialer(nil))
	grpc.NewClient("unix:/socket")
	options := []grpc.DialOption{}
	options = append(options, grpc.WithContextDialer(nil))
	grpc.NewClient("a:80", options...)
	grpc.NewClient("a:80", given...)
	_ = &redis.Options{Dialer: dial}
	late := &redis.Options{}
	late.Dialer = dial
	parsed, _ := redis.ParseURL(url)
	parsed.Dialer = dial
	config, _ := pgx.ParseConfig(url)
	config.DialFunc = dial
	pgx.ConnectConfig(ctx, config)
	client := new(dns.Client)
	client.Dialer = nil
}
