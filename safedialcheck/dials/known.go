package dials

// dialingFunctions are functions that dial by themselves, with what a program can do
// about it.
var dialingFunctions = map[string]string{
	"net/smtp.Dial":                               "net/smtp dials by itself; dial with safedial and call smtp.NewClient",
	"net/smtp.SendMail":                           "net/smtp dials by itself; dial with safedial and call smtp.NewClient",
	"net/rpc.Dial":                                "net/rpc dials by itself; dial with safedial and call rpc.NewClient",
	"net/rpc.DialHTTP":                            "net/rpc dials by itself; dial with safedial and call rpc.NewClient",
	"net/rpc.DialHTTPPath":                        "net/rpc dials by itself; dial with safedial and call rpc.NewClient",
	"net/rpc/jsonrpc.Dial":                        "net/rpc/jsonrpc dials by itself; dial with safedial and call jsonrpc.NewClient",
	"net/textproto.Dial":                          "net/textproto dials by itself; dial with safedial and call textproto.NewConn",
	"log/syslog.Dial":                             "log/syslog dials by itself and takes no dialer",
	"golang.org/x/crypto/ssh.Dial":                "ssh dials by itself; dial with safedial and call ssh.NewClientConn",
	"golang.org/x/net/websocket.Dial":             "websocket dials by itself; dial with safedial and call websocket.NewClient",
	"golang.org/x/net/proxy.Dial":                 "proxy dials by itself; call proxy.FromEnvironmentUsing with a safedial.Dialer",
	"github.com/go-ldap/ldap/v3.DialURL":          "ldap dials by itself; pass ldap.DialWithDialer(d.NetDialer())",
	"github.com/nats-io/nats.go.Connect":          "nats dials by itself; pass nats.SetCustomDialer(&d)",
	"github.com/jackc/pgx/v5.Connect":             "pgx dials by itself; set DialFunc in the result of pgx.ParseConfig",
	"github.com/rabbitmq/amqp091-go.Dial":         "amqp dials by itself; call amqp.DialConfig with a Dial function, which dials without TLS timeouts of its own",
	"github.com/go-sql-driver/mysql.NewConnector": "mysql dials by itself; set DialFunc in mysql.Config",
	"github.com/gomodule/redigo/redis.Dial":       "redis dials by itself; pass redis.DialContextFunc(d.DialContext)",
	"github.com/gomodule/redigo/redis.DialURL":    "redis dials by itself; pass redis.DialContextFunc(d.DialContext)",
}

// A client is a struct that dials by itself unless one of its fields is set.
type client struct {
	dialFields []string
	advice     string
	tls        string // the field with which a dial function must do TLS by itself
}

// clients are the structs of other packages that dial by themselves.
var clients = map[string]client{
	"github.com/redis/go-redis/v9.Options":          {[]string{"Dialer"}, "set Dialer to d.DialContext", "TLSConfig"},
	"github.com/redis/go-redis/v9.ClusterOptions":   {[]string{"Dialer"}, "set Dialer to d.DialContext", "TLSConfig"},
	"github.com/redis/go-redis/v9.UniversalOptions": {[]string{"Dialer"}, "set Dialer to d.DialContext", "TLSConfig"},
	"github.com/redis/go-redis/v9.FailoverOptions":  {[]string{"Dialer"}, "set Dialer to d.DialContext", "TLSConfig"},
	"github.com/gorilla/websocket.Dialer":           {[]string{"NetDial", "NetDialContext", "NetDialTLSContext"}, "set NetDialContext to d.DialContext", ""},
	"github.com/valyala/fasthttp.Client":            {[]string{"Dial", "DialTimeout"}, "set Dial", ""},
	"github.com/valyala/fasthttp.HostClient":        {[]string{"Dial", "DialTimeout"}, "set Dial", ""},
	"github.com/segmentio/kafka-go.Dialer":          {[]string{"DialFunc"}, "set DialFunc to d.DialContext", ""},
	"golang.org/x/net/http2.Transport":              {[]string{"DialTLS", "DialTLSContext"}, "set DialTLSContext to the DialContext of a tls.Dialer with a NetDialer", "TLSClientConfig"},
}
