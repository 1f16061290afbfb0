package clients

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/lib/pq"
	mssql "github.com/microsoft/go-mssqldb"
	oracle "github.com/sijms/go-ora/v2"

	"github.com/safedial/safedial"
)

// PGX is github.com/jackc/pgx/v5.
//
// TLS: the library's
// Timeouts: the library's, connect_timeout; d's Timeout holds too
// Keep-alive: d's
// Proxies: none
func PGX(config *pgx.ConnConfig, d *safedial.Dialer) {
	config.DialFunc = d.DialContext
}

// PQ is github.com/lib/pq.
//
// TLS: the library's
// Timeouts: the library's, connect_timeout; d's Timeout holds too
// Keep-alive: d's
// Proxies: none
func PQ(connector *pq.Connector, d *safedial.Dialer) {
	connector.Dialer(d)
}

// MySQL is github.com/go-sql-driver/mysql.
//
// TLS: the library's
// Timeouts: the library's, Config.Timeout; d's Timeout holds too
// Keep-alive: d's
// Proxies: none
func MySQL(config *mysql.Config, d *safedial.Dialer) {
	config.DialFunc = d.DialContext
}

// MySQLRegister is github.com/go-sql-driver/mysql by data source name.
//
// TLS: the library's
// Timeouts: the library's, timeout=; d's Timeout holds too
// Keep-alive: d's
// Proxies: none
// Note: for every connection of the program to a tcp(…) name
func MySQLRegister(d *safedial.Dialer) {
	mysql.RegisterDialContext("tcp", d.DialTarget)
}

// MSSQL is github.com/microsoft/go-mssqldb.
//
// TLS: the library's
// Timeouts: the library's, dial timeout; d's Timeout holds too
// Keep-alive: d's; keepAlive= does not apply
// Proxies: none
func MSSQL(connector *mssql.Connector, d *safedial.Dialer) {
	connector.Dialer = d
}

// ClickHouse is github.com/ClickHouse/clickhouse-go/v2.
//
// TLS: **none**: the native protocol then ignores Options.TLS; use the next line
// Timeouts: the library's, Options.DialTimeout; d's Timeout holds too
// Keep-alive: d's
// Proxies: none
func ClickHouse(options *clickhouse.Options, d *safedial.Dialer) {
	options.DialContext = d.DialTarget
}

// ClickHouseTLS is github.com/ClickHouse/clickhouse-go/v2 with TLS.
//
// TLS: yours, in this line
// Timeouts: the library's, Options.DialTimeout; d's Timeout holds too
// Keep-alive: d's
// Proxies: none
// Note: for the native protocol
func ClickHouseTLS(options *clickhouse.Options, d *safedial.Dialer, config *tls.Config) {
	options.DialContext = func(ctx context.Context, address string) (net.Conn, error) {
		return (&tls.Dialer{NetDialer: d.NetDialer(), Config: config}).DialContext(ctx, "tcp", address)
	}
}

// Oracle is github.com/sijms/go-ora/v2.
//
// TLS: the library's
// Timeouts: d's; CONNECT TIMEOUT does not bound the dial
// Keep-alive: d's
// Proxies: none
func Oracle(connector *oracle.OracleConnector, d *safedial.Dialer) {
	connector.Dialer(d)
}
