package dials

import "go/ast"

// A library is a package with functions, types and variables that dial by themselves
// unless they are given a dialer.
type library struct {
	row    string   // the library's row in docs/adopt.md, which has the lines to write
	advice string   // what to do, if there is no row
	path   string   // the package
	names  string   // its functions, types and variables, separated by spaces
	cures  []string // the fields, methods and options that give it a dialer
	tls    []string // those with which it uses TLS, and needs the row "with TLS"

	tlsInText        bool // a URL decides about TLS
	defaultTransport bool // it uses http.DefaultTransport, which main can switch
	silent           func(c *checker, call *ast.CallExpr) bool
}

// libraries are the libraries of docs/adopt.md, and more of the standard library.
var libraries = []library{
	{row: resty, path: resty, names: "New NewWithLocalAddr", cures: []string{"SetTransport"}},
	{row: minio, path: minio, names: "Options", cures: []string{"Transport"}},
	{
		row: influx, path: influx, names: "NewClient NewClientWithOptions",
		cures: []string{"SetHTTPClient", "HTTPClient"},
	},
	{
		row: "github.com/hashicorp/consul/api", path: "github.com/hashicorp/consul/api",
		names: "Config DefaultConfig DefaultConfigWithLogger DefaultNonPooledConfig",
		cures: []string{"Transport", "HttpClient"},
	},
	{row: vault, path: vault, names: "Config DefaultConfig", cures: []string{"HttpClient"}},
	{
		row: "github.com/valyala/fasthttp", path: "github.com/valyala/fasthttp",
		names: "Client HostClient PipelineClient Get GetDeadline GetTimeout Post Do DoDeadline " +
			"DoRedirects DoTimeout",
		cures: []string{"Dial", "DialTimeout"},
	},
	{
		row: "github.com/valyala/fasthttp", path: "github.com/valyala/fasthttp",
		names: "Dial DialTimeout DialDualStack DialDualStackTimeout",
	},
	{
		row: "github.com/coder/websocket", path: "github.com/coder/websocket", names: "Dial",
		cures: []string{"HTTPClient"}, defaultTransport: true,
	},
	{
		row:   "github.com/gorilla/websocket",
		path:  "github.com/gorilla/websocket",
		names: "Dialer DefaultDialer",
		cures: []string{"NetDial", "NetDialContext", "NetDialTLSContext"},
	},
	{row: xWebSocket, path: xWebSocket, names: "Dial"},
	{
		row: xWebSocket, path: xWebSocket, names: "Config NewConfig",
		cures: []string{"Dialer", "NewClient"},
	},
	{
		row: moby, path: moby, names: "New NewClientWithOpts",
		cures: []string{"WithDialContext", "WithHTTPClient"}, silent: mobySocket,
	},

	{
		row:   "google.golang.org/grpc",
		path:  "google.golang.org/grpc",
		names: "NewClient Dial DialContext",
		cures: []string{"WithContextDialer", "WithDialer"}, silent: unixTarget,
	},
	{row: etcd, path: etcd, names: "Config NewFromURL NewFromURLs", cures: []string{"DialOptions"}},
	{row: "net/rpc", path: "net/rpc", names: "Dial DialHTTP DialHTTPPath", silent: harmlessFirst},
	{
		row: "golang.org/x/crypto/ssh", path: "golang.org/x/crypto/ssh", names: "Dial",
		silent: harmlessFirst,
	},
	{row: "golang.org/x/net/proxy", path: "golang.org/x/net/proxy", names: "Direct"},
	{
		row: "golang.org/x/net/proxy", path: "golang.org/x/net/proxy", names: "SOCKS5 FromURL",
		silent: lastIsSet,
	},
	{row: "golang.org/x/net/proxy", path: "golang.org/x/net/proxy", names: "Dial FromEnvironment"},

	{
		row: goRedis, path: goRedis,
		names: "Options ClusterOptions UniversalOptions FailoverOptions RingOptions",
		cures: goRedisCures, tls: []string{"TLSConfig"},
	},
	{
		row: goRedis, path: goRedis, names: "ParseURL ParseClusterURL ParseFailoverURL",
		cures: goRedisCures, tls: []string{"TLSConfig"}, tlsInText: true,
	},
	{
		row: "github.com/gomodule/redigo", path: "github.com/gomodule/redigo/redis",
		names: "Dial DialContext DialURL DialURLContext DialTimeout",
		cures: []string{"DialContextFunc", "DialNetDial"},
	},
	{
		row:   "github.com/redis/rueidis",
		path:  "github.com/redis/rueidis",
		names: "ClientOption ParseURL MustParseURL",
		cures: []string{"DialCtxFn", "DialFn"},
	},

	{
		row: pgx, path: pgx,
		names: "Connect ConnectWithOptions ParseConfig ParseConfigWithOptions",
		cures: []string{"DialFunc"},
	},
	{row: pgx, path: pgx + "/pgxpool", names: "New ParseConfig", cures: []string{"DialFunc"}},
	{
		row: pgx, path: pgx + "/pgconn",
		names: "Connect ConnectWithOptions ParseConfig ParseConfigWithOptions",
		cures: []string{"DialFunc"},
	},
	{
		row: "github.com/lib/pq", path: "github.com/lib/pq",
		names: "Open NewConnector NewConnectorConfig NewListener NewListenerConn",
		cures: []string{"Dialer"},
	},
	{
		row: mysql, path: mysql, names: "Config NewConfig ParseDSN",
		cures: []string{"DialFunc", "RegisterDialContext"},
	},
	{
		row: mysql + " by data source name", path: mysql, names: "MySQLDriver",
		cures: []string{"RegisterDialContext"},
	},
	{
		row: mssql, path: mssql, names: "NewConnector NewConnectorConfig NewAccessTokenConnector " +
			"NewConnectorWithAccessTokenProvider NewConnectorWithProcessQueryText",
		cures: []string{"Dialer"},
	},
	{
		row: clickHouse, path: clickHouse, names: "Options", cures: []string{"DialContext"},
		tls: []string{"TLS"},
	},
	{
		row: clickHouse, path: clickHouse, names: "ParseDSN", cures: []string{"DialContext"},
		tls: []string{"TLS"}, tlsInText: true,
	},
	{row: oracle, path: oracle, names: "NewConnector NewConnection", cures: []string{"Dialer"}},

	{
		row:   "go.mongodb.org/mongo-driver/v2",
		path:  "go.mongodb.org/mongo-driver/v2/mongo/options",
		names: "Client",
		cures: []string{"SetDialer", "SetHTTPClient"},
	},
	{
		row: cassandra, path: cassandra,
		names: "ClusterConfig NewCluster", cures: []string{"Dialer", "HostDialer"},
	},
	{
		row: cassandra, path: "github.com/gocql/gocql",
		names: "ClusterConfig NewCluster", cures: []string{"Dialer", "HostDialer"},
	},
	{
		row: "github.com/bradfitz/gomemcache", path: "github.com/bradfitz/gomemcache/memcache",
		names: "Client New NewFromSelector", cures: []string{"DialContext"},
	},
	{
		row: "github.com/go-zookeeper/zk", path: "github.com/go-zookeeper/zk", names: "Connect",
		cures: []string{"WithDialer"},
	},

	{
		row:   "github.com/nats-io/nats.go",
		path:  "github.com/nats-io/nats.go",
		names: "Connect Options GetDefaultOptions",
		cures: []string{"SetCustomDialer", "CustomDialer", "InProcessServer"},
	},
	{
		row:   "github.com/twmb/franz-go",
		path:  "github.com/twmb/franz-go/pkg/kgo",
		names: "NewClient",
		cures: []string{"Dialer"}, tls: []string{"DialTLSConfig", "DialTLS"},
	},
	{row: kafka, path: kafka, names: "Transport", cures: []string{"Dial"}},
	{row: kafka, path: kafka, names: "Client Writer", cures: []string{"Transport"}},
	{row: kafka + " for readers", path: kafka, names: "Dialer", cures: []string{"DialFunc"}},
	{
		row: kafka + " for readers", path: kafka,
		names: "ReaderConfig ConsumerGroupConfig WriterConfig", cures: []string{"Dialer"},
	},
	{row: kafka + " for readers", path: kafka, names: "Dial DialContext DialLeader DialPartition"},
	{
		row: "github.com/IBM/sarama", path: "github.com/IBM/sarama", names: "NewConfig",
		cures: []string{"Proxy"},
	},
	{row: amqp, path: amqp, names: "Config", cures: []string{"Dial"}},
	{row: amqp, path: amqp, names: "Dial DialTLS DialTLS_ExternalAuth"},
	{
		row:   "github.com/eclipse/paho.mqtt.golang",
		path:  "github.com/eclipse/paho.mqtt.golang",
		names: "NewClientOptions",
		cures: []string{"SetDialer", "SetCustomOpenConnectionFn"},
	},
	{
		row: "github.com/beanstalkd/go-beanstalk", path: "github.com/beanstalkd/go-beanstalk",
		names: "Dial DialTimeout",
	},

	{row: "net/smtp", path: "net/smtp", names: "Dial SendMail"},
	{
		row: "github.com/wneessen/go-mail", path: "github.com/wneessen/go-mail",
		names: "NewClient", cures: []string{"WithDialContextFunc"},
	},
	{
		row:   "github.com/go-ldap/ldap/v3",
		path:  "github.com/go-ldap/ldap/v3",
		names: "Dial DialTLS DialURL",
		cures: []string{"DialWithDialer"},
	},
	{
		row: "github.com/miekg/dns", path: "github.com/miekg/dns", names: "Client",
		cures: []string{"Dialer", "ExchangeWithConn"},
	},
	{
		row: "github.com/miekg/dns", path: "github.com/miekg/dns",
		names: "Exchange ExchangeContext Dial DialTimeout DialWithTLS DialTimeoutWithTLS",
	},
	{
		row: dnsv2, path: dnsv2, names: "Client NewClient Exchange",
		cures: []string{"Dialer", "Transport"},
	},
	{
		row:   "github.com/jlaffaye/ftp",
		path:  "github.com/jlaffaye/ftp",
		names: "Dial Connect DialTimeout",
		cures: []string{"DialWithDialer", "DialWithDialFunc", "DialWithNetConn"},
	},

	{
		row: "go.temporal.io/sdk", path: "go.temporal.io/sdk/internal", names: "ClientOptions",
		cures: []string{"ConnectionOptions"},
	},
	{
		row: "k8s.io/client-go", path: "k8s.io/client-go/rest", names: "Config InClusterConfig",
		cures: []string{"Dial", "Transport"},
	},
	{
		row: "k8s.io/client-go", path: "k8s.io/client-go/tools/clientcmd",
		names: "BuildConfigFromFlags", cures: []string{"Dial", "Transport"},
	},
	{
		row: elastic, path: elastic, names: "Config", cures: []string{"Transport"},
		defaultTransport: true,
	},
	{
		row: elastic, path: elastic, names: "New NewBase NewTyped",
		cures: []string{"WithTransport", "WithTransportOptions"}, defaultTransport: true,
	},
	{row: elastic, path: elastic, names: "NewDefaultClient", defaultTransport: true},

	{
		advice: "it makes its own net.Dialer; reserve the port", path: "github.com/nsqio/go-nsq",
		names: "NewConsumer NewProducer NewConn",
	},
	{
		advice: "it dials by itself; dial with safedial and call jsonrpc.NewClient",
		path:   "net/rpc/jsonrpc", names: "Dial", silent: harmlessFirst,
	},
	{
		advice: "it dials by itself; dial with safedial and call textproto.NewConn",
		path:   "net/textproto", names: "Dial", silent: harmlessFirst,
	},
	{
		advice: "it dials by itself and takes no dialer; reserve the port", path: "log/syslog",
		names: "Dial", silent: localLog,
	},
	{
		advice: "it dials by itself; set DialTLSContext to the DialContext of a tls.Dialer " +
			"that has the NetDialer d.NetDialer()",
		path:  "golang.org/x/net/http2",
		names: "Transport",
		cures: []string{"DialTLS", "DialTLSContext"},
	},
}

const (
	cassandra  = "github.com/apache/cassandra-gocql-driver/v2"
	dnsv2      = "codeberg.org/miekg/dns"
	resty      = "github.com/go-resty/resty/v2"
	minio      = "github.com/minio/minio-go/v7"
	influx     = "github.com/influxdata/influxdb-client-go/v2"
	vault      = "github.com/hashicorp/vault/api"
	xWebSocket = "golang.org/x/net/websocket"
	moby       = "github.com/moby/moby/client"
	etcd       = "go.etcd.io/etcd/client/v3"
	goRedis    = "github.com/redis/go-redis/v9"
	pgx        = "github.com/jackc/pgx/v5"
	mysql      = "github.com/go-sql-driver/mysql"
	mssql      = "github.com/microsoft/go-mssqldb"
	clickHouse = "github.com/ClickHouse/clickhouse-go/v2"
	oracle     = "github.com/sijms/go-ora/v2"
	kafka      = "github.com/segmentio/kafka-go"
	amqp       = "github.com/rabbitmq/amqp091-go"
	elastic    = "github.com/elastic/go-elasticsearch/v9"
)

var goRedisCures = []string{"Dialer", "NewDialer"}
