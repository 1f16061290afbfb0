package clients

import (
	"cmp"
	"context"
	"crypto/tls"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
)

var redisLibraries = []library{
	{name: "GoRedis", server: redisServer, tls: true, call: callGoRedis},
	{name: "GoRedisTLS", tls: true, call: callGoRedisTLS},
	{name: "Redigo", server: redisServer, tls: true, call: callRedigo},
	{name: "Rueidis", server: redisServer, tls: true, call: callRueidis},
}

func callGoRedis(ctx context.Context, a attempt) error {
	options := &goredis.Options{Addr: a.address, TLSConfig: a.tls, MaxRetries: -1}
	if a.d != nil {
		GoRedis(options, a.d)
	}
	client := goredis.NewClient(options)
	defer client.Close()
	return client.Set(ctx, "peer", "real", time.Minute).Err()
}

func callGoRedisTLS(ctx context.Context, a attempt) error {
	options := &goredis.Options{Addr: a.address, MaxRetries: -1, DialerRetries: 1}
	GoRedisTLS(options, a.d, cmp.Or(a.tls, new(tls.Config)))
	client := goredis.NewClient(options)
	defer client.Close()
	return client.Ping(ctx).Err()
}

func callRedigo(ctx context.Context, a attempt) error {
	options := []redis.DialOption{redis.DialUseTLS(a.tls != nil)}
	if a.d != nil {
		options = append(options, Redigo(a.d))
	}
	conn, err := redis.DialContext(ctx, "tcp", a.address, options...)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = redis.DoContext(conn, ctx, "SET", "peer", "real")
	return err
}

func callRueidis(ctx context.Context, a attempt) error {
	option := rueidis.ClientOption{
		InitAddress: []string{a.address}, TLSConfig: a.tls,
		ForceSingleClient: true, DisableCache: true,
	}
	if a.d != nil {
		Rueidis(&option, a.d)
	}
	client, err := rueidis.NewClient(option)
	if err != nil {
		return err
	}
	defer client.Close()
	return client.Do(ctx, client.B().Set().Key("peer").Value("real").Build()).Error()
}

var redisServer = server{
	name: "redis-server", program: "redis-server", debian: "redis-server",
	start: func(t *testing.T, address string) error {
		return newProcess(t).start(t, address, "redis-server", "--bind", "127.0.0.1",
			"--port", port(t, address), "--save", "")
	},
}
