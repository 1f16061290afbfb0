package adopt

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/go-zookeeper/zk"

	"github.com/safedial/safedial"
)

func TestRoundTripMemcache(t *testing.T) {
	trip{
		server: "memcached", program: "memcached", debian: "memcached",
		start: func(t *testing.T, address string) error {
			return process{dir: t.TempDir()}.start(t, address, "memcached", "-l", "127.0.0.1", "-p", port(t, address))
		},
		call: func(_ context.Context, address string, d *safedial.Dialer) error {
			client := memcache.New(address)
			defer client.Close()
			client.Timeout = time.Second
			if d != nil {
				Memcache(client, d)
			}
			return client.Set(&memcache.Item{Key: "peer", Value: []byte("real")})
		},
	}.run(t)
}

func TestRoundTripZooKeeper(t *testing.T) {
	trip{
		server: "ZooKeeper", program: "zkServer.sh", debian: "zookeeper",
		start: func(t *testing.T, address string) error {
			p := process{dir: t.TempDir()}
			config := p.write(t, "zoo.cfg", "tickTime=2000\ndataDir=%s\nclientPort=%s\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n",
				filepath.Join(p.dir, "data"), port(t, address))
			return p.start(t, address, "java", "-cp", "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar", "-Dzookeeper.log.dir="+p.dir,
				"org.apache.zookeeper.server.quorum.QuorumPeerMain", config)
		},
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			connect := func(servers []string) (*zk.Conn, <-chan zk.Event, error) { return zk.Connect(servers, 10*time.Second) }
			if d != nil {
				connect = func(servers []string) (*zk.Conn, <-chan zk.Event, error) { return ZooKeeper(servers, d) }
			}
			conn, events, err := connect([]string{address})
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
		},
	}.run(t)
}
