package adopt

import (
	"context"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/safedial/safedial"
)

func startRedis(t *testing.T, address string) error {
	p := process{dir: t.TempDir()}
	return p.start(t, address, "redis-server", "--bind", "127.0.0.1", "--port", port(t, address), "--save", "")
}

func TestRoundTripGoRedis(t *testing.T) {
	trip{
		server: "redis-server", program: "redis-server", debian: "redis-server",
		start: startRedis,
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			options := &goredis.Options{Addr: address, MaxRetries: -1}
			if d != nil {
				GoRedis(options, d)
			}
			client := goredis.NewClient(options)
			defer client.Close()
			return client.Set(ctx, "peer", "real", time.Minute).Err()
		},
	}.run(t)
}

func TestRoundTripRedigo(t *testing.T) {
	trip{
		server: "redis-server", program: "redis-server", debian: "redis-server",
		start: startRedis,
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			var options []redis.DialOption
			if d != nil {
				options = append(options, Redigo(d))
			}
			conn, err := redis.DialContext(ctx, "tcp", address, options...)
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = redis.DoContext(conn, ctx, "SET", "peer", "real")
			return err
		},
	}.run(t)
}

func TestRoundTripRueidis(t *testing.T) {
	trip{
		server: "redis-server", program: "redis-server", debian: "redis-server",
		start: startRedis,
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			option := rueidis.ClientOption{InitAddress: []string{address}, ForceSingleClient: true, DisableCache: true}
			if d != nil {
				Rueidis(&option, d)
			}
			client, err := rueidis.NewClient(option)
			if err != nil {
				return err
			}
			defer client.Close()
			return client.Do(ctx, client.B().Set().Key("peer").Value("real").Build()).Error()
		},
	}.run(t)
}
