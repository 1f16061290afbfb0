package adopt

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/beanstalkd/go-beanstalk"
	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/safedial/safedial"
)

func TestRoundTripNATS(t *testing.T) {
	trip{
		server: "nats-server", program: "nats-server", debian: "nats-server",
		start: func(t *testing.T, address string) error {
			return process{dir: t.TempDir()}.start(t, address, "nats-server", "-a", "127.0.0.1", "-p", port(t, address))
		},
		call: func(_ context.Context, address string, d *safedial.Dialer) error {
			options := []nats.Option{nats.Timeout(time.Second)}
			if d != nil {
				options = append(options, NATS(d))
			}
			conn, err := nats.Connect("nats://"+address, options...)
			if err != nil {
				return err
			}
			defer conn.Close()
			return conn.FlushTimeout(time.Second)
		},
	}.run(t)
}

// startKafka starts the brokers of franz-go's tests.
func startKafka(t *testing.T, address string) error {
	number, err := strconv.Atoi(port(t, address))
	require.NoError(t, err)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(number), kfake.SeedTopics(1, "topic"))
	if err != nil {
		return err
	}
	t.Cleanup(cluster.Close)
	return nil
}

func TestRoundTripFranzGo(t *testing.T) {
	trip{
		server: "franz-go's kfake",
		start:  startKafka,
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			options := []kgo.Opt{kgo.SeedBrokers(address)}
			if d != nil {
				options = append(options, FranzGo(d))
			}
			client, err := kgo.NewClient(options...)
			if err != nil {
				return err
			}
			defer client.Close()
			return client.Ping(ctx)
		},
	}.run(t)
}

func TestRoundTripKafkaGo(t *testing.T) {
	trip{
		server: "franz-go's kfake",
		start:  startKafka,
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			transport := new(kafka.Transport)
			defer transport.CloseIdleConnections()
			if d != nil {
				KafkaGo(transport, d)
			}
			client := kafka.Client{Addr: kafka.TCP(address), Transport: transport}
			_, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{"topic"}})
			return err
		},
	}.run(t)
}

func TestRoundTripKafkaGoReader(t *testing.T) {
	trip{
		server: "franz-go's kfake",
		start:  startKafka,
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			dialer := &kafka.Dialer{Timeout: 5 * time.Second}
			if d != nil {
				KafkaGoReader(dialer, d)
			}
			conn, err := dialer.DialContext(ctx, "tcp", address)
			if err != nil {
				return err
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(time.Second))
			_, err = conn.ReadPartitions("topic")
			return err
		},
	}.run(t)
}

func TestRoundTripSarama(t *testing.T) {
	trip{
		server: "franz-go's kfake",
		start:  startKafka,
		call: func(_ context.Context, address string, d *safedial.Dialer) error {
			config := sarama.NewConfig()
			config.Metadata.Retry.Max = 0
			config.Net.ReadTimeout = time.Second
			config.ApiVersionsRequest = false
			if d != nil {
				Sarama(config, d)
			}
			client, err := sarama.NewClient([]string{address}, config)
			if err != nil {
				return err
			}
			defer client.Close()
			_, err = client.Partitions("topic")
			return err
		},
	}.run(t)
}

func TestRoundTripRabbitMQ(t *testing.T) {
	trip{
		server: "RabbitMQ", program: "rabbitmq-server", debian: "rabbitmq-server",
		start: startRabbitMQ,
		call: func(_ context.Context, address string, d *safedial.Dialer) error {
			config := amqp.Config{SASL: []amqp.Authentication{&amqp.PlainAuth{Username: "guest", Password: "guest"}}, Vhost: "/"}
			if d != nil {
				RabbitMQ(&config, d)
			}
			conn, err := amqp.DialConfig("amqp://"+address, config)
			if err != nil {
				return err
			}
			defer conn.Close()
			channel, err := conn.Channel()
			if err != nil {
				return err
			}
			_, err = channel.QueueDeclare("queue", false, true, false, false, nil)
			return err
		},
	}.run(t)
}

func startRabbitMQ(t *testing.T, address string) error {
	p := process{dir: t.TempDir()}
	// Erlang's own ports are not among the local ones.
	p.env = []string{
		"RABBITMQ_NODENAME=rabbit@localhost", "RABBITMQ_DIST_PORT=2" + port(t, address)[1:], "ERL_EPMD_PORT=1" + port(t, address)[1:],
		"ERL_EPMD_ADDRESS=127.0.0.1", "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", "RABBITMQ_NODE_PORT=" + port(t, address),
		"RABBITMQ_MNESIA_BASE=" + p.dir, "RABBITMQ_LOG_BASE=" + p.dir, "RABBITMQ_LOGS=-", "RABBITMQ_PID_FILE=" + p.dir + "/pid",
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + p.write(t, "plugins", "[]."), "RABBITMQ_CONFIG_FILE=" + p.write(t, "rabbitmq.conf", ""),
	}
	return p.start(t, address, "/usr/lib/rabbitmq/bin/rabbitmq-server")
}

func TestRoundTripMQTT(t *testing.T) {
	trip{
		server: "mosquitto", program: "mosquitto", debian: "mosquitto",
		start: func(t *testing.T, address string) error {
			p := process{dir: t.TempDir()}
			return p.start(t, address, "mosquitto", "-c", p.write(t, "conf", "listener %s 127.0.0.1\nallow_anonymous true\n", port(t, address)))
		},
		call: func(ctx context.Context, address string, d *safedial.Dialer) error {
			options := mqtt.NewClientOptions().AddBroker("tcp://" + address).SetConnectTimeout(time.Second)
			if d != nil {
				MQTT(options, d)
			}
			client := mqtt.NewClient(options)
			defer client.Disconnect(0)
			token := client.Connect()
			select {
			case <-token.Done():
				return token.Error()
			case <-ctx.Done():
				return errors.New("no answer")
			}
		},
	}.run(t)
}

func TestRoundTripBeanstalk(t *testing.T) {
	trip{
		server: "beanstalkd", program: "beanstalkd", debian: "beanstalkd",
		start: func(t *testing.T, address string) error {
			return process{dir: t.TempDir()}.start(t, address, "beanstalkd", "-l", "127.0.0.1", "-p", port(t, address))
		},
		call: func(_ context.Context, address string, d *safedial.Dialer) error {
			dial := func() (*beanstalk.Conn, error) { return beanstalk.Dial("tcp", address) }
			if d != nil {
				dial = func() (*beanstalk.Conn, error) { return Beanstalk(d, address) }
			}
			conn, err := dial()
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = conn.ListTubes()
			return err
		},
	}.run(t)
}
