package dialers

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

type contextDialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Used through its methods and fields only.
func methods(ctx context.Context) {
	(&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", "a:80") // want `net.Dialer does not use safedial`
	new(net.Dialer).Dial("tcp", "a:80")                                 // want `net.Dialer does not use safedial`
	dial := (&net.Dialer{}).DialContext                                 // want `net.Dialer does not use safedial`
	dial(ctx, "tcp", "a:80")
	var d net.Dialer // want `net.Dialer does not use safedial`
	d.Timeout = time.Second
	d.Dial("tcp", "a:80")
	p := &net.Dialer{ // want `net.Dialer does not use safedial`
		KeepAlive: time.Second,
	}
	p.LocalAddr = nil
	p.DialContext(ctx, "tcp", "a:80")
	var typed *net.Dialer = new(net.Dialer) // want `net.Dialer does not use safedial`
	typed.Dial("tcp", "a:80")
}

// Passed to what takes a *net.Dialer, or an interface.
func passed(network string) {
	tls.DialWithDialer(&net.Dialer{Timeout: time.Second}, network, "a:80", nil) // want `net.Dialer does not use safedial`
	tls.DialWithDialer(new(net.Dialer), network, "a:80", nil)                   // want `net.Dialer does not use safedial`
	_ = tls.Dialer{NetDialer: &net.Dialer{}}                                    // want `net.Dialer does not use safedial`
	var d net.Dialer                                                            // want `net.Dialer does not use safedial`
	d.Timeout = time.Second
	tls.DialWithDialer(&d, network, "a:80", nil)
	p := &net.Dialer{} // want `net.Dialer does not use safedial`
	_ = tls.Dialer{NetDialer: p}
	takeInterface(&net.Dialer{}) // want `net.Dialer does not use safedial`
	takeInterface(&d)
	var i contextDialer = &net.Dialer{} // want `net.Dialer does not use safedial`
	takeInterface(i)
}

func field() {
	var d tls.Dialer
	d.NetDialer = &net.Dialer{} // want `net.Dialer does not use safedial`
}

func takeInterface(contextDialer) {}

func returnsInterface() contextDialer {
	return &net.Dialer{} // want `net.Dialer does not use safedial`
}

// Fields and variables of the package, followed by type.
type client struct {
	value   net.Dialer // want `net.Dialer does not use safedial`
	pointer *net.Dialer
	Dialer  net.Dialer // want `left as it is: an exported field is part of the package's API`
}

var shared = net.Dialer{Timeout: time.Second} // want `net.Dialer does not use safedial`

func newClient() *client {
	c := &client{pointer: &net.Dialer{}} // want `net.Dialer does not use safedial`
	c.value.Timeout = time.Second
	if c.pointer == nil {
		c.pointer = &net.Dialer{Timeout: time.Second} // want `net.Dialer does not use safedial`
	}
	return c
}

func (c *client) dial(ctx context.Context) {
	c.value.DialContext(ctx, "tcp", "a:80")
	c.pointer.DialContext(ctx, "tcp", "a:80")
	c.Dialer.Dial("tcp", "a:80")
	shared.Dial("tcp", "a:80")
}

// Default is exported.
var Default = &net.Dialer{} // want `left as it is: an exported variable is part of the package's API`

type embedded struct {
	net.Dialer // want `left as it is: it is embedded`
}

type defined net.Dialer // want `left as it is: a type is defined by it`

func left(ctx context.Context, param *net.Dialer) *net.Dialer {
	if param == nil {
		param = &net.Dialer{} // want `left as it is: it is assigned to a parameter`
	}
	fmt.Print(&net.Dialer{}) // want `left as it is: its use cannot be followed`
	late := &net.Dialer{}    // want `left as it is: its fields are set after it is passed on`
	tls.DialWithDialer(late, "tcp", "a:80", nil)
	late.Timeout = time.Second
	alias := net.Dialer{} // want `left as it is: its use cannot be followed`
	copied := alias
	copied.Dial("tcp", "a:80")
	var either *net.Dialer
	either = &net.Dialer{} // want `left as it is: it is assigned a dialer that is made elsewhere`
	either = param
	either.Dial("tcp", "a:80")
	var maybe *net.Dialer
	if ctx != nil {
		maybe = &net.Dialer{} // want `left as it is: it is passed on, and may be nil`
	}
	tls.DialWithDialer(maybe, "tcp", "a:80", nil)
	_ = []net.Dialer{{}} // want `left as it is: it is an element`
	return &net.Dialer{} // want `left as it is: it is returned, and its fields may be set elsewhere`
}

// Their sockets have no ports.
func harmless(ctx context.Context) {
	(&net.Dialer{}).DialContext(ctx, "unix", "/socket")
	var u net.Dialer
	u.DialContext(ctx, "unix", "/socket")
	u.DialContext(ctx, "ip4:icmp", "a")
}

// A fix would change the line of each of them.
type ignored struct {
	dialer net.Dialer //safedial:ignore the server never stops
}

func (i *ignored) reset() {
	i.dialer = net.Dialer{} // want `left as it is: the fix would change a line with safedial:ignore`
}
