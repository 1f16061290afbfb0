// Package dns stands for the real one.
package dns

import "net"

// Client stands for the real one.
type Client struct {
	Net    string
	Dialer *net.Dialer
}
