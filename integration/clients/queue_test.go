package clients

import (
	"cmp"
	"context"
	"crypto/tls"
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
)

var queueLibraries = []library{
	{name: "NATS", server: natsServer, call: callNATS},
	{name: "FranzGo", server: kafkaServer, call: callFranzGo},
	{name: "FranzGoTLS", tls: true, call: callFranzGoTLS},
	{name: "KafkaGo", server: kafkaServer, tls: true, call: callKafkaGo},
	{name: "KafkaGoReader", server: kafkaServer, tls: true, call: callKafkaGoReader},
	{name: "Sarama", server: kafkaServer, tls: true, call: callSarama},
	{name: "RabbitMQ", server: rabbitMQServer, tls: true, call: callRabbitMQ},
	{name: "MQTT", server: mosquittoServer, tls: true, call: callMQTT},
	{name: "Beanstalk", server: beanstalkdServer, call: callBeanstalk},
}

func callNATS(_ context.Context, a attempt) error {
	options := []nats.Option{nats.Timeout(time.Second)}
	if a.d != nil {
		options = append(options, NATS(a.d))
	}
	conn, err := nats.Connect("nats://"+a.address, options...)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.FlushTimeout(time.Second)
}

func callFranzGo(ctx context.Context, a attempt) error {
	if a.d == nil {
		return pingKafka(ctx, a)
	}
	return pingKafka(ctx, a, FranzGo(a.d))
}

func callFranzGoTLS(ctx context.Context, a attempt) error {
	return pingKafka(ctx, a, FranzGoTLS(a.d, cmp.Or(a.tls, new(tls.Config))))
}

func callKafkaGo(ctx context.Context, a attempt) error {
	transport := &kafka.Transport{TLS: a.tls}
	defer transport.CloseIdleConnections()
	if a.d != nil {
		KafkaGo(transport, a.d)
	}
	client := kafka.Client{Addr: kafka.TCP(a.address), Transport: transport}
	_, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{"topic"}})
	return err
}

func callKafkaGoReader(ctx context.Context, a attempt) error {
	dialer := &kafka.Dialer{Timeout: 5 * time.Second, TLS: a.tls}
	if a.d != nil {
		KafkaGoReader(dialer, a.d)
	}
	conn, err := dialer.DialContext(ctx, "tcp", a.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_, err = conn.ReadPartitions("topic")
	return err
}

func callSarama(_ context.Context, a attempt) error {
	config := sarama.NewConfig()
	config.Metadata.Retry.Max = 0
	config.Net.ReadTimeout = time.Second
	config.Net.TLS.Enable, config.Net.TLS.Config = a.tls != nil, a.tls
	config.ApiVersionsRequest = false
	if a.d != nil {
		Sarama(config, a.d)
	}
	client, err := sarama.NewClient([]string{a.address}, config)
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = client.Partitions("topic")
	return err
}

func callRabbitMQ(_ context.Context, a attempt) error {
	guest := &amqp.PlainAuth{Username: "guest", Password: "guest"}
	config := amqp.Config{
		SASL: []amqp.Authentication{guest}, Vhost: "/", TLSClientConfig: a.tls,
	}
	if a.d != nil {
		RabbitMQ(&config, a.d)
	}
	conn, err := amqp.DialConfig(a.url("amqp"), config)
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
}

func callMQTT(ctx context.Context, a attempt) error {
	options := mqtt.NewClientOptions().AddBroker(a.url("mqtt")).SetTLSConfig(a.tls)
	options.SetConnectTimeout(time.Second)
	if a.d != nil {
		MQTT(options, a.d)
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
}

func callBeanstalk(_ context.Context, a attempt) error {
	dial := func() (*beanstalk.Conn, error) { return beanstalk.Dial("tcp", a.address) }
	if a.d != nil {
		dial = func() (*beanstalk.Conn, error) { return Beanstalk(a.d, a.address) }
	}
	conn, err := dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.ListTubes()
	return err
}

var natsServer = server{
	name: "nats-server", program: "nats-server", debian: "nats-server",
	start: func(t *testing.T, address string) error {
		return newProcess(t).start(t, address, "nats-server", "-a", "127.0.0.1", "-p",
			port(t, address))
	},
}

var kafkaServer = server{
	name: "franz-go's kfake",
	start: func(t *testing.T, address string) error {
		number, err := strconv.Atoi(port(t, address))
		require.NoError(t, err)
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(number),
			kfake.SeedTopics(1, "topic"))
		if err != nil {
			return err
		}
		t.Cleanup(cluster.Close)
		return nil
	},
}

var rabbitMQServer = server{
	name: "RabbitMQ", program: "rabbitmq-server", debian: "rabbitmq-server",
	start: func(t *testing.T, address string) error {
		p := newProcess(t)
		own := port(t, address)
		// Erlang's own ports are outside of the local port range.
		p.env = []string{
			"RABBITMQ_NODENAME=rabbit@localhost",
			"RABBITMQ_DIST_PORT=2" + own[1:],
			"ERL_EPMD_PORT=1" + own[1:],
			"ERL_EPMD_ADDRESS=127.0.0.1",
			"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
			"RABBITMQ_NODE_PORT=" + own,
			"RABBITMQ_MNESIA_BASE=" + p.dir,
			"RABBITMQ_LOG_BASE=" + p.dir,
			"RABBITMQ_LOGS=-",
			"RABBITMQ_PID_FILE=" + p.dir + "/pid",
			"RABBITMQ_ENABLED_PLUGINS_FILE=" + p.write(t, "plugins", "[]."),
			"RABBITMQ_CONFIG_FILE=" + p.write(t, "rabbitmq.conf", ""),
		}
		return p.start(t, address, "/usr/lib/rabbitmq/bin/rabbitmq-server")
	},
}

var mosquittoServer = server{
	name: "mosquitto", program: "mosquitto", debian: "mosquitto",
	start: func(t *testing.T, address string) error {
		p := newProcess(t)
		config := p.write(t, "conf", "listener %s 127.0.0.1\nallow_anonymous true\n",
			port(t, address))
		return p.start(t, address, "mosquitto", "-c", config)
	},
}

var beanstalkdServer = server{
	name: "beanstalkd", program: "beanstalkd", debian: "beanstalkd",
	start: func(t *testing.T, address string) error {
		return newProcess(t).start(t, address, "beanstalkd", "-l", "127.0.0.1", "-p",
			port(t, address))
	},
}

// pingKafka pings a broker by franz-go.
func pingKafka(ctx context.Context, a attempt, options ...kgo.Opt) error {
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(a.address))...)
	if err != nil {
		return err
	}
	defer client.Close()
	return client.Ping(ctx)
}
