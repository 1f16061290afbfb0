package safedial

import (
	"context"
	"net"
	"time"
)

// Dial connects to the address on the named network. It acts like [net.Dial], with
// a zero [Dialer].
func Dial(network, address string) (net.Conn, error) {
	return new(Dialer).Dial(network, address)
}

// DialTimeout acts like Dial with a timeout, which bounds the whole dial, retries
// included. If the timeout is zero, there is none. If it is negative, the dial fails
// immediately.
func DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	return new(Dialer).DialTimeout(network, address, timeout)
}

// DialContext acts like Dial with a context. It has the form in which
// [net/http.Transport] and others take a dial function.
func DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return new(Dialer).DialContext(ctx, network, address)
}

// DialTCP acts like [net.DialTCP], with a zero [Dialer]. If laddr is nil, the system
// chooses the local address and port. If raddr is nil, the error is net's "missing
// address".
func DialTCP(network string, laddr, raddr *net.TCPAddr) (*net.TCPConn, error) {
	if t, ok := addrTarget(network, laddr, raddr); ok {
		return asConn[*net.TCPConn](new(Dialer).dial(context.Background(), t))
	}
	return net.DialTCP(network, laddr, raddr)
}
