package adopt

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/lib/pq"

	"github.com/safedial/safedial"
)

func startPostgreSQL(t *testing.T, address string) error {
	p := process{dir: t.TempDir()}
	data := filepath.Join(p.dir, "data")
	p.run(t, "initdb", "--pgdata", data, "--auth", "trust", "--username", "postgres", "--no-sync")
	return p.start(t, address, "postgres", "-D", data, "-p", port(t, address), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-k", "")
}

func TestRoundTripPGX(t *testing.T) {
	trip{
		server: "PostgreSQL", program: "postgres", debian: "postgresql",
		start: startPostgreSQL,
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			config, err := pgx.ParseConfig("postgres://postgres@" + address + "/postgres?sslmode=disable&connect_timeout=5")
			if err != nil {
				return err
			}
			if d != nil {
				PGX(config, d)
			}
			conn, err := pgx.ConnectConfig(ctx, config)
			if err != nil {
				return err
			}
			defer conn.Close(context.WithoutCancel(ctx))
			return conn.Ping(ctx)
		},
	}.run(t)
}

func TestRoundTripPQ(t *testing.T) {
	trip{
		server: "PostgreSQL", program: "postgres", debian: "postgresql",
		start: startPostgreSQL,
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			connector, err := pq.NewConnector("postgres://postgres@" + address + "/postgres?sslmode=disable&connect_timeout=5")
			if err != nil {
				return err
			}
			if d != nil {
				PQ(connector, d)
			}
			return ping(ctx, connector)
		},
	}.run(t)
}

// ping pings a database by one connection.
func ping(ctx context.Context, connector driver.Connector) error {
	db := sql.OpenDB(connector)
	defer db.Close()
	return db.PingContext(ctx)
}

func startMariaDB(t *testing.T, address string) error {
	p := process{dir: t.TempDir()}
	data := filepath.Join(p.dir, "data")
	p.run(t, "mariadb-install-db", "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db")
	return p.start(t, address, "mariadbd", "--no-defaults", "--datadir="+data, "--bind-address=127.0.0.1", "--port="+port(t, address),
		"--socket="+filepath.Join(p.dir, "socket"), "--pid-file="+filepath.Join(p.dir, "pid"), "--skip-name-resolve")
}

func TestRoundTripMySQL(t *testing.T) {
	trip{
		server: "MariaDB", program: "mariadbd", debian: "mariadb-server",
		start: startMariaDB,
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			config := mysql.NewConfig()
			config.User, config.Net, config.Addr, config.Timeout = "root", "tcp", address, 5*time.Second
			if d != nil {
				MySQL(config, d)
			}
			connector, err := mysql.NewConnector(config)
			if err != nil {
				return err
			}
			return ping(ctx, connector)
		},
	}.run(t)
}

func TestRoundTripMySQLRegister(t *testing.T) {
	trip{
		server: "MariaDB", program: "mariadbd", debian: "mariadb-server",
		start: startMariaDB,
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			mysql.DeregisterDialContext("tcp")
			if d != nil {
				MySQLRegister(d)
			}
			db, err := sql.Open("mysql", "root@tcp("+address+")/?timeout=5s")
			if err != nil {
				return err
			}
			defer db.Close()
			return db.PingContext(ctx)
		},
	}.run(t)
}
