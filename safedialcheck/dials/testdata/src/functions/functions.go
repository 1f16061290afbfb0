package functions

import (
	"context"
	"crypto/tls"
	"net"
	"net/smtp"
	"time"
)

func calls(network, address string) {
	net.Dial(network, address)                   // want `net.Dial does not use safedial`
	net.Dial("tcp", address)                     // want `net.Dial does not use safedial`
	net.DialTimeout("udp", address, time.Second) // want `net.DialTimeout does not use safedial`
	net.DialTCP("tcp", nil, &net.TCPAddr{})      // want `net.DialTCP does not use safedial`
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

func left(address string) {
	net.Dial("unix", address)                                 // want `net.Dial does not use safedial; left as it is: a Unix socket cannot be connected to itself`
	net.DialTimeout("unixpacket", address, time.Second)       // want `left as it is: a Unix socket`
	net.DialUnix("unix", nil, nil)                            // want `left as it is: a Unix socket`
	net.DialUDP("udp", nil, nil)                              // want `left as it is: safedial has no function that takes a \*net.UDPAddr`
	net.DialIP("ip", nil, nil)                                // want `left as it is: an IP socket has no port`
	f := tls.Dial                                             // want `left as it is: its use cannot be followed`
	smtp.Dial(address)                                        // want `left as it is: net/smtp dials by itself`
	tls.Dial("unix", address, nil)                            // want `left as it is: a Unix socket`
	net.DefaultResolver.LookupHost(context.Background(), "a") // it is package net's own
	f("tcp", address, nil)
}
