//go:build go1.27

package safedial

import (
	"context"
	"net"
)

// unbound makes a call of DialTCP or DialUDP whose laddr is not valid.
func (c *call) unbound(ctx context.Context, nd *net.Dialer) (net.Conn, error) {
	return c.direct(ctx, nd)
}
