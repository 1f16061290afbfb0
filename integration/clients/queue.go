package clients

import (
	"crypto/tls"

	"github.com/IBM/sarama"
	"github.com/beanstalkd/go-beanstalk"
	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/safedial/safedial"
)

// NATS is github.com/nats-io/nats.go.
//
// TLS: the library's
// Timeouts: d's; nats.Timeout bounds what follows the dial
// Keep-alive: d's; the library's pings too
// Proxies: none
func NATS(d *safedial.Dialer) nats.Option {
	return nats.SetCustomDialer(d)
}

// FranzGo is github.com/twmb/franz-go.
//
// TLS: **none**; use the next line
// Timeouts: d's; kgo.DialTimeout does not apply
// Keep-alive: d's
// Proxies: none
func FranzGo(d *safedial.Dialer) kgo.Opt {
	return kgo.Dialer(d.DialContext)
}

// FranzGoTLS is github.com/twmb/franz-go with TLS.
//
// TLS: yours, in this line; it replaces kgo.DialTLSConfig
// Timeouts: d's; kgo.DialTimeout does not apply
// Keep-alive: d's
// Proxies: none
func FranzGoTLS(d *safedial.Dialer, config *tls.Config) kgo.Opt {
	return kgo.Dialer((&tls.Dialer{NetDialer: d.NetDialer(), Config: config}).DialContext)
}

// KafkaGo is github.com/segmentio/kafka-go.
//
// TLS: the library's
// Timeouts: the library's, Transport.DialTimeout; d's Timeout holds too
// Keep-alive: d's
// Proxies: none
// Note: for Client and Writer
func KafkaGo(transport *kafka.Transport, d *safedial.Dialer) {
	transport.Dial = d.DialContext
}

// KafkaGoReader is github.com/segmentio/kafka-go for readers.
//
// TLS: the library's
// Timeouts: the library's, Dialer.Timeout; d's Timeout holds too
// Keep-alive: d's; Dialer.KeepAlive does not apply
// Proxies: none
// Note: for Reader, Conn and ConsumerGroup
func KafkaGoReader(dialer *kafka.Dialer, d *safedial.Dialer) {
	dialer.DialFunc = d.DialContext
}

// Sarama is github.com/IBM/sarama.
//
// TLS: the library's
// Timeouts: d's; Net.DialTimeout does not apply
// Keep-alive: d's; Net.KeepAlive does not apply
// Proxies: yours: this is the place of the proxy
func Sarama(config *sarama.Config, d *safedial.Dialer) {
	config.Net.Proxy.Enable = true
	config.Net.Proxy.Dialer = d
}

// RabbitMQ is github.com/rabbitmq/amqp091-go.
//
// TLS: the library's
// Timeouts: d's; the handshake has none
// Keep-alive: d's; the library's heartbeats too
// Proxies: none
func RabbitMQ(config *amqp.Config, d *safedial.Dialer) {
	config.Dial = d.Dial
}

// MQTT is github.com/eclipse/paho.mqtt.golang.
//
// TLS: the library's
// Timeouts: d's; SetConnectTimeout after this line changes them
// Keep-alive: d's; the library's pings too
// Proxies: the library's, all_proxy; with TLS, the library dials the proxy without d
// Note: not for ws and wss
func MQTT(options *mqtt.ClientOptions, d *safedial.Dialer) {
	options.SetDialer(d.NetDialer())
}

// Beanstalk is github.com/beanstalkd/go-beanstalk.
//
// TLS: yours
// Timeouts: d's
// Keep-alive: d's
// Proxies: none
// Note: beanstalk.Dial takes no dialer
func Beanstalk(d *safedial.Dialer, address string) (*beanstalk.Conn, error) {
	conn, err := d.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return beanstalk.NewConn(conn), nil
}
