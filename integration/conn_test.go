package integration

import (
	"net"
	"path/filepath"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/safedial/safedial"
)

// TestConn holds the connections that a Dialer makes to what package net promises
// of every connection.
func TestConn(t *testing.T) {
	for name, c := range map[string]struct {
		network, address string
		d                safedial.Dialer
	}{
		"TCP over IPv4":       {"tcp4", "127.0.0.1:0", safedial.Dialer{}},
		"TCP over IPv6":       {"tcp6", "[::1]:0", safedial.Dialer{}},
		"TCP from an address": {"tcp4", "127.0.0.1:0", safedial.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}},
		"Unix":                {"unix", filepath.Join(t.TempDir(), "socket"), safedial.Dialer{}},
	} {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				l, err := net.Listen(c.network, c.address)
				if err != nil {
					return nil, nil, nil, err
				}
				defer l.Close()
				c1, err = c.d.DialContext(t.Context(), c.network, l.Addr().String())
				if err != nil {
					return nil, nil, nil, err
				}
				c2, err = l.Accept()
				if err != nil {
					c1.Close()
					return nil, nil, nil, err
				}
				return c1, c2, func() { c1.Close(); c2.Close() }, nil
			})
		})
	}
}
