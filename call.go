package safedial

import (
	"context"
	"net"
	"net/netip"
	"strings"
)

// A call is what a dial asks of a net.Dialer.
type call struct {
	method           method
	network, address string
	laddr, raddr     netip.AddrPort // of DialTCP and DialUDP
}

type method uint8

const (
	callDialContext method = iota
	callDialTCP
	callDialUDP
)

// on makes the call. It names the methods, for through a function value nd would
// have to live on the heap.
func (c *call) on(ctx context.Context, nd *net.Dialer) (net.Conn, error) {
	switch {
	case c.method == callDialContext:
		return nd.DialContext(ctx, c.network, c.address)
	case !c.laddr.IsValid():
		return c.unbound(ctx, nd)
	}
	return c.direct(ctx, nd)
}

// direct makes a call of DialTCP or DialUDP.
func (c *call) direct(ctx context.Context, nd *net.Dialer) (net.Conn, error) {
	if c.method == callDialTCP {
		return untyped(nd.DialTCP(ctx, c.network, c.laddr, c.raddr))
	}
	return untyped(nd.DialUDP(ctx, c.network, c.laddr, c.raddr))
}

// serial reports whether the call tries one address after the other, so that the
// hook is called no more when it has returned. With Happy Eyeballs a goroutine
// that lost the race may be late. An address of two families is a name, an empty
// host or "::", of which net makes 0.0.0.0 too (https://go.dev/issue/18806).
func (c *call) serial(nd *net.Dialer) bool {
	if c.method != callDialContext || c.network != "tcp" || nd.FallbackDelay < 0 {
		return true
	}
	if !strings.HasPrefix(c.address, "[") && strings.IndexAny(c.address, "0123456789") != 0 {
		return false // what is no IP address costs an error to parse
	}
	ap, err := netip.ParseAddrPort(c.address)
	return err == nil && !ap.Addr().WithZone("").IsUnspecified() // net looks at no zone here
}

// untyped returns conn as a net.Conn, which is nil with an error.
func untyped[C net.Conn](conn C, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// typed returns conn as what it is, and nil for nil.
func typed[C net.Conn](conn net.Conn, err error) (C, error) {
	c, _ := conn.(C)
	return c, err
}
