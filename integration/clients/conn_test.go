package clients

import (
	"net"
	"path/filepath"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/safedial/safedial"
)

// TestConn shows that a Dialer's connections do what package net promises of every
// connection, by x/net/nettest.
func TestConn(t *testing.T) {
	loopback := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}
	tests := []struct {
		name, network, address string
		d                      safedial.Dialer
	}{
		{name: "TCP4", network: "tcp4", address: "127.0.0.1:0"},
		{name: "TCP6", network: "tcp6", address: "[::1]:0"},
		{
			name: "LocalAddr", network: "tcp4", address: "127.0.0.1:0",
			d: safedial.Dialer{LocalAddr: loopback},
		},
		{name: "Unix", network: "unix", address: filepath.Join(t.TempDir(), "socket")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				l, err := net.Listen(tt.network, tt.address)
				if err != nil {
					return nil, nil, nil, err
				}
				defer l.Close()
				c1, err = tt.d.DialContext(t.Context(), tt.network, l.Addr().String())
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
