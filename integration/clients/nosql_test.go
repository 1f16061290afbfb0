package clients

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/bradfitz/gomemcache/memcache"
	"github.com/go-zookeeper/zk"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

var nosqlLibraries = []library{
	{name: "MongoDB", tls: true, call: callMongoDB},
	{name: "Cassandra", tls: true, call: callCassandra},
	{name: "Memcache", server: memcachedServer, call: callMemcache},
	{name: "ZooKeeper", server: zooKeeperServer, call: callZooKeeper},
}

func callMongoDB(ctx context.Context, a attempt) error {
	o := options.Client().ApplyURI("mongodb://" + a.address)
	if a.tls != nil {
		o.SetTLSConfig(a.tls)
	}
	MongoDB(o, a.d)
	client, err := mongo.Connect(o)
	if err != nil {
		return err
	}
	defer func() { _ = client.Disconnect(context.WithoutCancel(ctx)) }()
	return client.Ping(ctx, nil)
}

func callCassandra(_ context.Context, a attempt) error {
	cluster := gocql.NewCluster(a.address)
	if a.tls != nil {
		cluster.SslOpts = &gocql.SslOptions{Config: a.tls}
	}
	Cassandra(cluster, a.d)
	session, err := cluster.CreateSession()
	if err == nil {
		session.Close()
	}
	return err
}

func callMemcache(_ context.Context, a attempt) error {
	client := memcache.New(a.address)
	defer client.Close()
	client.Timeout = time.Second
	if a.d != nil {
		Memcache(client, a.d)
	}
	return client.Set(&memcache.Item{Key: "peer", Value: []byte("real")})
}

func callZooKeeper(ctx context.Context, a attempt) error {
	connect := func(servers []string) (*zk.Conn, <-chan zk.Event, error) {
		if a.d != nil {
			return ZooKeeper(servers, a.d)
		}
		return zk.Connect(servers, 10*time.Second)
	}
	conn, events, err := connect([]string{a.address})
	if err != nil {
		return err
	}
	defer conn.Close()
	for {
		select {
		case e := <-events:
			if e.State == zk.StateHasSession {
				_, _, err := conn.Exists("/")
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("no session: %w", ctx.Err())
		}
	}
}

var memcachedServer = server{
	name: "memcached", program: "memcached", debian: "memcached",
	start: func(t *testing.T, address string) error {
		return newProcess(t).start(t, address, "memcached", "-l", "127.0.0.1", "-p",
			port(t, address))
	},
}

var zooKeeperServer = server{
	name: "ZooKeeper", program: "zkServer.sh", debian: "zookeeper",
	start: func(t *testing.T, address string) error {
		p := newProcess(t)
		config := p.write(t, "zoo.cfg", `tickTime=2000
dataDir=%s
clientPort=%s
clientPortAddress=127.0.0.1
admin.enableServer=false
`, filepath.Join(p.dir, "data"), port(t, address))
		return p.start(t, address, "java",
			"-cp", "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar",
			"-Dzookeeper.log.dir="+p.dir,
			"org.apache.zookeeper.server.quorum.QuorumPeerMain", config)
	},
}
