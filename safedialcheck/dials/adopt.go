// Code generated from docs/adopt.md by go test -run TestPage ./dials -write. DO NOT EDIT.

package dials

// adopt has the lines of code of docs/adopt.md by the names of its rows.
var adopt = map[string][]string{
	"net/http": {
		`t := http.DefaultTransport.(*http.Transport).Clone()`,
		`t.DialContext = d.DialContext`,
	},
	"github.com/go-resty/resty/v2": {
		`client.SetTransport(t)`,
	},
	"github.com/minio/minio-go/v7": {
		`options.Transport = t`,
	},
	"github.com/influxdata/influxdb-client-go/v2": {
		`options.SetHTTPClient(&http.Client{Transport: t, Timeout: 20 * time.Second})`,
	},
	"github.com/hashicorp/consul/api": {
		`config.Transport.DialContext = d.DialContext`,
	},
	"github.com/hashicorp/vault/api": {
		`config.HttpClient.Transport.(*http.Transport).DialContext = d.DialContext`,
	},
	"github.com/valyala/fasthttp": {
		`client.Dial = func(address string) (net.Conn, error) { return d.Dial("tcp", address) }`,
	},
	"github.com/coder/websocket": {
		`options.HTTPClient = &http.Client{Transport: t}`,
	},
	"github.com/gorilla/websocket": {
		`dialer := *gorilla.DefaultDialer`,
		`dialer.NetDialContext = d.DialContext`,
	},
	"golang.org/x/net/websocket": {
		`config.Dialer = d.NetDialer()`,
	},
	"github.com/moby/moby/client": {
		`client.WithDialContext(d.DialContext)`,
	},
	"google.golang.org/grpc": {
		`grpc.WithContextDialer(d.DialTarget)`,
	},
	"go.etcd.io/etcd/client/v3": {
		`config.DialOptions = append(config.DialOptions, grpc.WithContextDialer(d.DialTarget))`,
	},
	"net/rpc": {
		`conn, err := d.Dial("tcp", address)`,
		`rpc.NewClient(conn)`,
	},
	"golang.org/x/crypto/ssh": {
		`conn, err := d.DialContext(ctx, "tcp", address)`,
		`c, channels, requests, err := ssh.NewClientConn(conn, address, config)`,
		`ssh.NewClient(c, channels, requests)`,
	},
	"crypto/tls": {
		`&tls.Dialer{NetDialer: d.NetDialer(), Config: config}`,
	},
	"golang.org/x/net/proxy": {
		`proxy.SOCKS5("tcp", address, auth, d)`,
	},
	"github.com/redis/go-redis/v9": {
		`options.Dialer = d.DialContext`,
	},
	"github.com/redis/go-redis/v9 with TLS": {
		`options.Dialer = (&tls.Dialer{NetDialer: d.NetDialer(), Config: config}).DialContext`,
	},
	"github.com/gomodule/redigo": {
		`redis.DialContextFunc(d.DialContext)`,
	},
	"github.com/redis/rueidis": {
		`option.DialCtxFn = func(ctx context.Context, address string, _ *net.Dialer, config *tls.Config) (net.Conn, error) {`,
		`if config != nil {`,
		`return (&tls.Dialer{NetDialer: d.NetDialer(), Config: config}).DialContext(ctx, "tcp", address)`,
		`}`,
		`return d.DialContext(ctx, "tcp", address)`,
		`}`,
	},
	"github.com/jackc/pgx/v5": {
		`config.DialFunc = d.DialContext`,
	},
	"github.com/lib/pq": {
		`connector.Dialer(d)`,
	},
	"github.com/go-sql-driver/mysql": {
		`config.DialFunc = d.DialContext`,
	},
	"github.com/go-sql-driver/mysql by data source name": {
		`mysql.RegisterDialContext("tcp", d.DialTarget)`,
	},
	"github.com/microsoft/go-mssqldb": {
		`connector.Dialer = d`,
	},
	"github.com/ClickHouse/clickhouse-go/v2": {
		`options.DialContext = d.DialTarget`,
	},
	"github.com/ClickHouse/clickhouse-go/v2 with TLS": {
		`options.DialContext = func(ctx context.Context, address string) (net.Conn, error) {`,
		`return (&tls.Dialer{NetDialer: d.NetDialer(), Config: config}).DialContext(ctx, "tcp", address)`,
		`}`,
	},
	"github.com/sijms/go-ora/v2": {
		`connector.Dialer(d)`,
	},
	"go.mongodb.org/mongo-driver/v2": {
		`options.SetDialer(d)`,
	},
	"github.com/gocql/gocql": {
		`cluster.Dialer = d`,
	},
	"github.com/bradfitz/gomemcache": {
		`client.DialContext = d.DialContext`,
	},
	"github.com/go-zookeeper/zk": {
		`zk.Connect(servers, 10*time.Second, zk.WithDialer(d.DialTimeout))`,
	},
	"github.com/nats-io/nats.go": {
		`nats.SetCustomDialer(d)`,
	},
	"github.com/twmb/franz-go": {
		`kgo.Dialer(d.DialContext)`,
	},
	"github.com/twmb/franz-go with TLS": {
		`kgo.Dialer((&tls.Dialer{NetDialer: d.NetDialer(), Config: config}).DialContext)`,
	},
	"github.com/segmentio/kafka-go": {
		`transport.Dial = d.DialContext`,
	},
	"github.com/segmentio/kafka-go for readers": {
		`dialer.DialFunc = d.DialContext`,
	},
	"github.com/IBM/sarama": {
		`config.Net.Proxy.Enable = true`,
		`config.Net.Proxy.Dialer = d`,
	},
	"github.com/rabbitmq/amqp091-go": {
		`config.Dial = d.Dial`,
	},
	"github.com/eclipse/paho.mqtt.golang": {
		`options.SetDialer(d.NetDialer())`,
	},
	"github.com/beanstalkd/go-beanstalk": {
		`conn, err := d.Dial("tcp", address)`,
		`beanstalk.NewConn(conn)`,
	},
	"net/smtp": {
		`conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, port))`,
		`smtp.NewClient(conn, host)`,
	},
	"github.com/wneessen/go-mail": {
		`mail.WithDialContextFunc(d.DialContext)`,
	},
	"github.com/go-ldap/ldap/v3": {
		`ldap.DialWithDialer(d.NetDialer())`,
	},
	"github.com/miekg/dns": {
		`client.Dialer = d.NetDialer()`,
	},
	"github.com/jlaffaye/ftp": {
		`ftp.DialWithDialer(*d.NetDialer())`,
	},
	"go.temporal.io/sdk": {
		`options.ConnectionOptions.DialOptions = append(options.ConnectionOptions.DialOptions, grpc.WithContextDialer(d.DialTarget))`,
	},
	"k8s.io/client-go": {
		`config.Dial = d.DialContext`,
	},
	"github.com/elastic/go-elasticsearch/v9": {
		`config.Transport = t`,
	},
}
