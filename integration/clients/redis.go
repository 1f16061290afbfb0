package clients

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/gomodule/redigo/redis"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/safedial/safedial"
)

// GoRedis is github.com/redis/go-redis/v9.
//
// TLS: **none**: this line replaces TLSConfig, and sends the password in clear; use the next one
// Timeouts: the library's, Options.DialTimeout; d's Timeout holds too
// Keep-alive: d's
// Proxies: none
func GoRedis(options *goredis.Options, d *safedial.Dialer) {
	options.Dialer = d.DialContext
}

// GoRedisTLS is github.com/redis/go-redis/v9 with TLS.
//
// TLS: yours, in this line
// Timeouts: the library's, Options.DialTimeout; d's Timeout holds too
// Keep-alive: d's
// Proxies: none
func GoRedisTLS(options *goredis.Options, d *safedial.Dialer, config *tls.Config) {
	options.Dialer = (&tls.Dialer{NetDialer: d.NetDialer(), Config: config}).DialContext
}

// Redigo is github.com/gomodule/redigo.
//
// TLS: the library's
// Timeouts: d's; DialConnectTimeout does not apply
// Keep-alive: d's; DialKeepAlive does not apply
// Proxies: none
func Redigo(d *safedial.Dialer) redis.DialOption {
	return redis.DialContextFunc(d.DialContext)
}

// Rueidis is github.com/redis/rueidis.
//
// TLS: yours, in these lines
// Timeouts: d's; those of ClientOption.Dialer do not apply
// Keep-alive: d's; that of ClientOption.Dialer does not apply
// Proxies: none
func Rueidis(option *rueidis.ClientOption, d *safedial.Dialer) {
	option.DialCtxFn = func(
		ctx context.Context, address string, _ *net.Dialer, config *tls.Config,
	) (net.Conn, error) {
		if config != nil {
			return (&tls.Dialer{NetDialer: d.NetDialer(), Config: config}).DialContext(ctx, "tcp", address)
		}
		return d.DialContext(ctx, "tcp", address)
	}
}
