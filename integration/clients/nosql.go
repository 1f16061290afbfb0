package clients

import (
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"github.com/bradfitz/gomemcache/memcache"
	"github.com/go-zookeeper/zk"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/safedial/safedial"
)

// MongoDB is go.mongodb.org/mongo-driver/v2.
//
// TLS: the library's
// Timeouts: the library's, SetConnectTimeout; d's Timeout holds too
// Keep-alive: d's
// Proxies: none
func MongoDB(options *options.ClientOptions, d *safedial.Dialer) {
	options.SetDialer(d)
}

// Cassandra is github.com/apache/cassandra-gocql-driver/v2.
//
// TLS: the library's
// Timeouts: d's; ConnectTimeout bounds what follows the dial
// Keep-alive: d's; SocketKeepalive does not apply
// Proxies: none
func Cassandra(cluster *gocql.ClusterConfig, d *safedial.Dialer) {
	cluster.Dialer = d
}

// Memcache is github.com/bradfitz/gomemcache.
//
// TLS: yours
// Timeouts: the library's, Client.Timeout; d's Timeout holds too
// Keep-alive: d's
// Proxies: none
func Memcache(client *memcache.Client, d *safedial.Dialer) {
	client.DialContext = d.DialContext
}

// ZooKeeper is github.com/go-zookeeper/zk.
//
// TLS: yours
// Timeouts: the library's; d's Timeout does not apply
// Keep-alive: d's
// Proxies: none
func ZooKeeper(servers []string, d *safedial.Dialer) (*zk.Conn, <-chan zk.Event, error) {
	return zk.Connect(servers, 10*time.Second, zk.WithDialer(d.DialTimeout))
}
