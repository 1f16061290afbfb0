package adopt

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/IBM/sarama"
	"github.com/coder/websocket"
	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/go-ldap/ldap/v3"
	"github.com/go-resty/resty/v2"
	"github.com/gocql/gocql"
	"github.com/gomodule/redigo/redis"
	consul "github.com/hashicorp/consul/api"
	vault "github.com/hashicorp/vault/api"
	influx "github.com/influxdata/influxdb-client-go/v2"
	"github.com/jlaffaye/ftp"
	"github.com/miekg/dns"
	"github.com/minio/minio-go/v7"
	moby "github.com/moby/moby/client"
	amqp "github.com/rabbitmq/amqp091-go"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
	"github.com/segmentio/kafka-go"
	oracle "github.com/sijms/go-ora/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/valyala/fasthttp"
	etcd "go.etcd.io/etcd/client/v3"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.uber.org/zap"
	xwebsocket "golang.org/x/net/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/safedial/safedial"
)

// config is what the libraries are told about TLS.
var config = &tls.Config{ServerName: "example.com"}

// TestTLS sees what the libraries that were told to use TLS send first: a handshake,
// but for those whose line says that it replaces it. Those that start with something
// else, such as a request for TLS, are not here.
func TestTLS(t *testing.T) {
	for library, call := range tlsCalls {
		t.Run(library, func(t *testing.T) {
			says := lines(t)[library].tls
			require.NotEmpty(t, says)
			const handshake = 0x16
			first := firstByte(t, call)
			assert.Equal(t, !strings.Contains(says, "**none**"), first == handshake, "the first byte is %#x; the page says %q", first, says)
		})
	}
}

// firstByte returns the first byte that the library sends.
func firstByte(t *testing.T, call dialing) byte {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	bytes := make(chan byte, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		var b [1]byte
		if n, _ := conn.Read(b[:]); n == 1 {
			bytes <- b[0]
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _ = call(ctx, l.Addr().String(), &safedial.Dialer{Timeout: 5 * time.Second}) }()
	select {
	case b := <-bytes:
		return b
	case <-time.After(10 * time.Second):
		require.Fail(t, "the library sends nothing")
	}
	return 0
}

var tlsCalls = map[string]dialing{
	"HTTP": func(ctx context.Context, address string, d *safedial.Dialer) error {
		return get(ctx, HTTP(d), "https://"+address)
	},
	"Resty": func(ctx context.Context, address string, d *safedial.Dialer) error {
		client := resty.New()
		Resty(client, HTTP(d))
		_, err := client.R().SetContext(ctx).Get("https://" + address)
		return err
	},
	"Minio": func(ctx context.Context, address string, d *safedial.Dialer) error {
		o := minio.Options{Secure: true}
		Minio(&o, HTTP(d))
		client, err := minio.New(address, &o)
		if err == nil {
			_, err = client.ListBuckets(ctx)
		}
		return err
	},
	"InfluxDB": func(ctx context.Context, address string, d *safedial.Dialer) error {
		o := influx.DefaultOptions()
		InfluxDB(o, HTTP(d))
		_, err := influx.NewClientWithOptions("https://"+address, "", o).Ping(ctx)
		return err
	},
	"Consul": func(_ context.Context, address string, d *safedial.Dialer) error {
		c := consul.DefaultConfig()
		c.Address, c.Scheme = address, "https"
		Consul(c, d)
		client, err := consul.NewClient(c)
		if err == nil {
			_, err = client.Status().Leader()
		}
		return err
	},
	"Vault": func(ctx context.Context, address string, d *safedial.Dialer) error {
		c := vault.DefaultConfig()
		c.Address = "https://" + address
		Vault(c, d)
		client, err := vault.NewClient(c)
		if err == nil {
			_, err = client.Sys().HealthWithContext(ctx)
		}
		return err
	},
	"Moby": func(ctx context.Context, address string, d *safedial.Dialer) error {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig = config
		client, err := moby.New(moby.WithHTTPClient(&http.Client{Transport: t}), moby.WithHost("tcp://"+address), Moby(d))
		if err == nil {
			_, err = client.Ping(ctx, moby.PingOptions{})
		}
		return err
	},
	"FastHTTP": func(_ context.Context, address string, d *safedial.Dialer) error {
		var client fasthttp.Client
		FastHTTP(&client, d)
		_, _, err := client.Get(nil, "https://"+address)
		return err
	},
	"CoderWebSocket": func(ctx context.Context, address string, d *safedial.Dialer) error {
		var o websocket.DialOptions
		CoderWebSocket(&o, HTTP(d))
		_, _, err := websocket.Dial(ctx, "wss://"+address, &o)
		return err
	},
	"GorillaWebSocket": func(ctx context.Context, address string, d *safedial.Dialer) error {
		_, _, err := GorillaWebSocket(d).DialContext(ctx, "wss://"+address, nil)
		return err
	},
	"NetWebSocket": func(ctx context.Context, address string, d *safedial.Dialer) error {
		c, err := xwebsocket.NewConfig("wss://"+address, "https://"+address)
		if err == nil {
			NetWebSocket(c, d)
			_, err = c.DialContext(ctx)
		}
		return err
	},
	"GRPC": func(ctx context.Context, address string, d *safedial.Dialer) error {
		client, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(config)), GRPC(d))
		if err == nil {
			_, err = healthpb.NewHealthClient(client).Check(ctx, new(healthpb.HealthCheckRequest))
		}
		return err
	},
	"Etcd": func(ctx context.Context, address string, d *safedial.Dialer) error {
		c := etcd.Config{Endpoints: []string{address}, TLS: config, Logger: zap.NewNop()}
		Etcd(&c, d)
		client, err := etcd.New(c)
		if err == nil {
			_, err = client.Put(ctx, "peer", "real")
		}
		return err
	},
	"TLS": func(ctx context.Context, address string, d *safedial.Dialer) error {
		_, err := TLS(d, config).DialContext(ctx, "tcp", address)
		return err
	},
	"GoRedis": func(ctx context.Context, address string, d *safedial.Dialer) error {
		o := &goredis.Options{Addr: address, TLSConfig: config}
		GoRedis(o, d)
		return goredis.NewClient(o).Ping(ctx).Err()
	},
	"GoRedisTLS": func(ctx context.Context, address string, d *safedial.Dialer) error {
		o := &goredis.Options{Addr: address}
		GoRedisTLS(o, d, config)
		return goredis.NewClient(o).Ping(ctx).Err()
	},
	"Redigo": func(ctx context.Context, address string, d *safedial.Dialer) error {
		_, err := redis.DialContext(ctx, "tcp", address, redis.DialUseTLS(true), Redigo(d))
		return err
	},
	"Rueidis": func(_ context.Context, address string, d *safedial.Dialer) error {
		o := rueidis.ClientOption{InitAddress: []string{address}, TLSConfig: config}
		Rueidis(&o, d)
		_, err := rueidis.NewClient(o)
		return err
	},
	"ClickHouse": func(ctx context.Context, address string, d *safedial.Dialer) error {
		o := &clickhouse.Options{Addr: []string{address}, TLS: config}
		ClickHouse(o, d)
		return pingClickHouse(ctx, o)
	},
	"ClickHouseTLS": func(ctx context.Context, address string, d *safedial.Dialer) error {
		o := &clickhouse.Options{Addr: []string{address}}
		ClickHouseTLS(o, d, config)
		return pingClickHouse(ctx, o)
	},
	"Oracle": func(ctx context.Context, address string, d *safedial.Dialer) error {
		connector := oracle.NewConnector("oracle://user:password@" + address + "/service?SSL=true&SSL+VERIFY=false")
		Oracle(connector.(*oracle.OracleConnector), d)
		return ping(ctx, connector)
	},
	"MongoDB": func(ctx context.Context, address string, d *safedial.Dialer) error {
		o := options.Client().ApplyURI("mongodb://" + address).SetTLSConfig(config)
		MongoDB(o, d)
		client, err := mongo.Connect(o)
		if err == nil {
			err = client.Ping(ctx, nil)
		}
		return err
	},
	"Cassandra": func(_ context.Context, address string, d *safedial.Dialer) error {
		cluster := gocql.NewCluster(address)
		cluster.SslOpts = &gocql.SslOptions{Config: config}
		Cassandra(cluster, d)
		_, err := cluster.CreateSession()
		return err
	},
	"FranzGoTLS": func(ctx context.Context, address string, d *safedial.Dialer) error {
		client, err := kgo.NewClient(kgo.SeedBrokers(address), FranzGoTLS(d, config))
		if err == nil {
			err = client.Ping(ctx)
		}
		return err
	},
	"KafkaGo": func(ctx context.Context, address string, d *safedial.Dialer) error {
		transport := &kafka.Transport{TLS: config}
		KafkaGo(transport, d)
		client := kafka.Client{Addr: kafka.TCP(address), Transport: transport}
		_, err := client.Metadata(ctx, new(kafka.MetadataRequest))
		return err
	},
	"KafkaGoReader": func(ctx context.Context, address string, d *safedial.Dialer) error {
		dialer := &kafka.Dialer{TLS: config}
		KafkaGoReader(dialer, d)
		_, err := dialer.DialContext(ctx, "tcp", address)
		return err
	},
	"Sarama": func(_ context.Context, address string, d *safedial.Dialer) error {
		c := sarama.NewConfig()
		c.Net.TLS.Enable, c.Net.TLS.Config = true, config
		Sarama(c, d)
		_, err := sarama.NewClient([]string{address}, c)
		return err
	},
	"RabbitMQ": func(_ context.Context, address string, d *safedial.Dialer) error {
		c := amqp.Config{TLSClientConfig: config}
		RabbitMQ(&c, d)
		_, err := amqp.DialConfig("amqps://"+address, c)
		return err
	},
	"MQTT": func(_ context.Context, address string, d *safedial.Dialer) error {
		o := mqtt.NewClientOptions().AddBroker("ssl://" + address).SetTLSConfig(config)
		MQTT(o, d)
		token := mqtt.NewClient(o).Connect()
		token.Wait()
		return token.Error()
	},
	"LDAP": func(_ context.Context, address string, d *safedial.Dialer) error {
		_, err := ldap.DialURL("ldaps://"+address, LDAP(d))
		return err
	},
	"DNS": func(ctx context.Context, address string, d *safedial.Dialer) error {
		client := dns.Client{Net: "tcp-tls", TLSConfig: config}
		DNS(&client, d)
		_, _, err := client.ExchangeContext(ctx, new(dns.Msg).SetQuestion("example.com.", dns.TypeA), address)
		return err
	},
	"FTP": func(_ context.Context, address string, d *safedial.Dialer) error {
		_, err := ftp.Dial(address, ftp.DialWithTLS(config), FTP(d))
		return err
	},
}
