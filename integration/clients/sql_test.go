package clients

import (
	"cmp"
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"path/filepath"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/lib/pq"
	mssql "github.com/microsoft/go-mssqldb"
	oracle "github.com/sijms/go-ora/v2"
)

var sqlLibraries = []library{
	{name: "PGX", server: postgreSQLServer, call: callPGX},
	{name: "PQ", server: postgreSQLServer, call: callPQ},
	{name: "MySQL", server: mariaDBServer, call: callMySQL},
	{name: "MySQLRegister", server: mariaDBServer, call: callMySQLRegister},
	{name: "MSSQL", call: callMSSQL},
	{name: "ClickHouse", tls: true, call: callClickHouse},
	{name: "ClickHouseTLS", tls: true, call: callClickHouseTLS},
	{name: "Oracle", tls: true, call: callOracle},
}

func callPGX(ctx context.Context, a attempt) error {
	config, err := pgx.ParseConfig(postgreSQLURL(a))
	if err != nil {
		return err
	}
	if a.d != nil {
		PGX(config, a.d)
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return conn.Ping(ctx)
}

func callPQ(ctx context.Context, a attempt) error {
	connector, err := pq.NewConnector(postgreSQLURL(a))
	if err != nil {
		return err
	}
	if a.d != nil {
		PQ(connector, a.d)
	}
	return ping(ctx, connector)
}

func callMySQL(ctx context.Context, a attempt) error {
	config := mysql.NewConfig()
	config.User, config.Net, config.Addr = "root", "tcp", a.address
	config.Timeout = 5 * time.Second
	if a.d != nil {
		MySQL(config, a.d)
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return err
	}
	return ping(ctx, connector)
}

func callMySQLRegister(ctx context.Context, a attempt) error {
	mysql.DeregisterDialContext("tcp")
	if a.d != nil {
		MySQLRegister(a.d)
	}
	db, err := sql.Open("mysql", "root@tcp("+a.address+")/?timeout=5s")
	if err != nil {
		return err
	}
	defer db.Close()
	return db.PingContext(ctx)
}

func callMSSQL(ctx context.Context, a attempt) error {
	connector, err := mssql.NewConnector(
		"sqlserver://user:password@" + a.address + "?dial+timeout=5")
	if err != nil {
		return err
	}
	MSSQL(connector, a.d)
	return ping(ctx, connector)
}

func callClickHouse(ctx context.Context, a attempt) error {
	options := &clickhouse.Options{Addr: []string{a.address}, TLS: a.tls}
	ClickHouse(options, a.d)
	return pingClickHouse(ctx, options)
}

func callClickHouseTLS(ctx context.Context, a attempt) error {
	options := &clickhouse.Options{Addr: []string{a.address}}
	ClickHouseTLS(options, a.d, cmp.Or(a.tls, new(tls.Config)))
	return pingClickHouse(ctx, options)
}

func callOracle(ctx context.Context, a attempt) error {
	url := "oracle://user:password@" + a.address + "/service?CONNECT+TIMEOUT=5"
	if a.tls != nil {
		url += "&SSL=true&SSL+VERIFY=false"
	}
	connector := oracle.NewConnector(url)
	Oracle(connector.(*oracle.OracleConnector), a.d)
	return ping(ctx, connector)
}

var postgreSQLServer = server{
	name: "PostgreSQL", program: "postgres", debian: "postgresql",
	start: func(t *testing.T, address string) error {
		p := newProcess(t)
		data := filepath.Join(p.dir, "data")
		p.run(t, "initdb", "--pgdata", data, "--auth", "trust", "--username", "postgres",
			"--no-sync")
		return p.start(t, address, "postgres", "-D", data, "-p", port(t, address), "-k", "",
			"-c", "listen_addresses=127.0.0.1", "-c", "fsync=off")
	},
}

var mariaDBServer = server{
	name: "MariaDB", program: "mariadbd", debian: "mariadb-server",
	start: func(t *testing.T, address string) error {
		p := newProcess(t)
		data := filepath.Join(p.dir, "data")
		p.run(t, "mariadb-install-db", "--no-defaults", "--datadir="+data,
			"--auth-root-authentication-method=normal", "--skip-test-db")
		return p.start(t, address, "mariadbd", "--no-defaults", "--datadir="+data,
			"--bind-address=127.0.0.1", "--port="+port(t, address), "--skip-name-resolve",
			"--socket="+filepath.Join(p.dir, "socket"),
			"--pid-file="+filepath.Join(p.dir, "pid"))
	},
}

func postgreSQLURL(a attempt) string {
	return "postgres://postgres@" + a.address + "/postgres?sslmode=disable&connect_timeout=5"
}

// ping pings a database by one connection.
func ping(ctx context.Context, connector driver.Connector) error {
	db := sql.OpenDB(connector)
	defer db.Close()
	return db.PingContext(ctx)
}

func pingClickHouse(ctx context.Context, options *clickhouse.Options) error {
	conn, err := clickhouse.Open(options)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Ping(ctx)
}
