package functions

import (
	"context"
	"crypto/tls"
	"database/sql"
	"log/syslog"
	"net"
	"net/rpc"
	"net/smtp"
	"time"
)

func calls(network, address string) {
	net.Dial(network, address)                   // want `net.Dial does not use safedial`
	net.Dial("tcp", address)                     // want `net.Dial does not use safedial`
	net.DialTimeout("udp", address, time.Second) // want `net.DialTimeout does not use safedial`
	net.DialTCP("tcp", nil, &net.TCPAddr{})      // want `net.DialTCP does not use safedial`
	net.DialUDP("udp", nil, &net.UDPAddr{})      // want `net.DialUDP does not use safedial`
	tls.Dial("tcp", address, nil)                // want `tls.Dial does not use safedial`
}

// Passed or assigned, they have the types of safedial's.
var dial = net.Dial // want `net.Dial does not use safedial`

func passed() {
	dial = net.Dial           // want `net.Dial does not use safedial`
	take(net.DialTimeout)     // want `net.DialTimeout does not use safedial`
	(net.Dial)("tcp", "a:80") // want `net.Dial does not use safedial`
}

func take(func(network, address string, timeout time.Duration) (net.Conn, error)) {}

func shadowed(new int, address string) {
	tls.Dial("tcp", address, nil) // want `tls.Dial does not use safedial$`
	_ = tls.Dialer{}              // want `tls.Dialer does not use safedial$`
}

func left(address string) {
	f := tls.Dial      // want `left as it is: its use cannot be followed`
	smtp.Dial(address) // want `smtp.Dial does not use safedial; left as it is: it dials by itself; write conn, err := d.DialContext\(.*\); smtp.NewClient\(conn, host\) \(https://github.com/safedial/safedial/blob/main/docs/adopt.md\)`
	f("tcp", address, nil)
	syslog.Dial("udp", address, 0, "") // want `syslog.Dial does not use safedial; left as it is: it dials by itself and takes no dialer; reserve the port`
	sql.Open("postgres", address)      // want `sql.Open does not use safedial; left as it is: its driver dials by itself; call sql.OpenDB with a connector: write connector.Dialer\(d\)`
}

// Sockets without ports, and what does not dial.
func harmless(address string) {
	net.Dial("unix", address)
	net.Dial("ip4:icmp", address)
	net.DialTimeout("unixpacket", address, time.Second)
	net.DialUnix("unix", nil, nil)
	net.DialIP("ip", nil, nil)
	tls.Dial("unix", address, nil)
	syslog.Dial("", "", 0, "")
	syslog.Dial("unixgram", address, 0, "")
	rpc.Dial("unix", address)
	sql.Open("sqlite", address)
	net.DefaultResolver.LookupHost(context.Background(), "a")
}

func ignored() {
	//safedial:ignore the server never stops
	net.Dial("tcp", "a:80")
	net.Dial("tcp", "a:80") //safedial:ignore the server never stops
	net.Dial("tcp", "a:80") // want `net.Dial does not use safedial$`
	net.Dial("tcp", "a:80") /* want `net.Dial does not use safedial$` */ //safedial:ignore
}
