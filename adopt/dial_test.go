package adopt

import (
	"context"
	"crypto/tls"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/gocql/gocql"
	consul "github.com/hashicorp/consul/api"
	vault "github.com/hashicorp/vault/api"
	mssql "github.com/microsoft/go-mssqldb"
	"github.com/minio/minio-go/v7"
	moby "github.com/moby/moby/client"
	goredis "github.com/redis/go-redis/v9"
	oracle "github.com/sijms/go-ora/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/safedial/safedial"
)

// A dialing has a library dial, and get no answer.
type dialing = func(ctx context.Context, address string, d *safedial.Dialer) error

// dialings are the libraries that make no round trip.
var dialings = map[string]dialing{
	"Minio": func(ctx context.Context, address string, d *safedial.Dialer) error {
		var o minio.Options
		Minio(&o, HTTP(d))
		client, err := minio.New(address, &o)
		if err == nil {
			_, err = client.ListBuckets(ctx)
		}
		return err
	},
	"Consul": func(_ context.Context, address string, d *safedial.Dialer) error {
		config := consul.DefaultConfig()
		config.Address = address
		Consul(config, d)
		client, err := consul.NewClient(config)
		if err == nil {
			_, err = client.Status().Leader()
		}
		return err
	},
	"Vault": func(ctx context.Context, address string, d *safedial.Dialer) error {
		config := vault.DefaultConfig()
		config.Address = "http://" + address
		Vault(config, d)
		client, err := vault.NewClient(config)
		if err == nil {
			_, err = client.Sys().HealthWithContext(ctx)
		}
		return err
	},
	"Moby": func(ctx context.Context, address string, d *safedial.Dialer) error {
		client, err := moby.New(moby.WithHost("tcp://"+address), Moby(d))
		if err == nil {
			_, err = client.Ping(ctx, moby.PingOptions{})
		}
		return err
	},
	"GoRedisTLS": func(ctx context.Context, address string, d *safedial.Dialer) error {
		o := &goredis.Options{Addr: address}
		GoRedisTLS(o, d, new(tls.Config))
		return goredis.NewClient(o).Ping(ctx).Err()
	},
	"FranzGoTLS": func(ctx context.Context, address string, d *safedial.Dialer) error {
		client, err := kgo.NewClient(kgo.SeedBrokers(address), FranzGoTLS(d, new(tls.Config)))
		if err == nil {
			err = client.Ping(ctx)
		}
		return err
	},
	"MSSQL": func(ctx context.Context, address string, d *safedial.Dialer) error {
		connector, err := mssql.NewConnector("sqlserver://user:password@" + address + "?dial+timeout=5")
		if err == nil {
			MSSQL(connector, d)
			err = ping(ctx, connector)
		}
		return err
	},
	"ClickHouse": func(ctx context.Context, address string, d *safedial.Dialer) error {
		o := &clickhouse.Options{Addr: []string{address}}
		ClickHouse(o, d)
		return pingClickHouse(ctx, o)
	},
	"ClickHouseTLS": func(ctx context.Context, address string, d *safedial.Dialer) error {
		o := &clickhouse.Options{Addr: []string{address}}
		ClickHouseTLS(o, d, new(tls.Config))
		return pingClickHouse(ctx, o)
	},
	"Oracle": func(ctx context.Context, address string, d *safedial.Dialer) error {
		connector := oracle.NewConnector("oracle://user:password@" + address + "/service?CONNECT+TIMEOUT=5")
		Oracle(connector.(*oracle.OracleConnector), d)
		return ping(ctx, connector)
	},
	"MongoDB": func(ctx context.Context, address string, d *safedial.Dialer) error {
		o := options.Client().ApplyURI("mongodb://" + address)
		MongoDB(o, d)
		client, err := mongo.Connect(o)
		if err == nil {
			err = client.Ping(ctx, nil)
		}
		return err
	},
	"Cassandra": func(_ context.Context, address string, d *safedial.Dialer) error {
		cluster := gocql.NewCluster(address)
		Cassandra(cluster, d)
		_, err := cluster.CreateSession()
		return err
	},
}

// TestDials sees that the libraries that make no round trip dial by safedial.
func TestDials(t *testing.T) {
	for library, call := range dialings {
		t.Run(library, func(t *testing.T) {
			claim(t, library, hasDeadline(t, call))
		})
	}
}

func pingClickHouse(ctx context.Context, o *clickhouse.Options) error {
	conn, err := clickhouse.Open(o)
	if err != nil {
		return err
	}
	return conn.Ping(ctx)
}

// hasDeadline reports whether the library gives its dials a deadline, or a timeout.
func hasDeadline(t *testing.T, call dialing) bool {
	t.Helper()
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
	go func() { _ = call(ctx, "127.0.0.1:1", &d) }()
	select {
	case ok := <-dialed:
		return ok
	case <-time.After(10 * time.Second):
		require.Fail(t, "the library does not dial by safedial")
	}
	return false
}

// claim compares what the page says about the library's timeouts.
func claim(t *testing.T, library string, deadline bool) {
	t.Helper()
	says := lines(t)[library].timeouts
	assert.Equal(t, deadline, strings.HasPrefix(says, "the library's"), "the dial has a deadline: %t; the page says %q", deadline, says)
}
