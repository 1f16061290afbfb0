package bpf

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial"
)

type dialer interface {
	Dial(network, address string) (net.Conn, error)
}

// dialers returns net.Dialer and safedial's, by name.
func dialers(local net.Addr) map[string]dialer {
	d := safedial.Dialer{LocalAddr: local}
	return map[string]dialer{
		"net.Dialer": &net.Dialer{LocalAddr: local},
		"Dialer":     &d,
		"NetDialer":  d.NetDialer(),
	}
}

// closedPort is a port of the local port range, on which no server listens.
const closedPort = 40000

// services are the addresses of services, which no interface has. Their backends on this
// host have closedPort: the port of one service shows that, and that of the other hides it.
var services = []netip.AddrPort{
	netip.MustParseAddrPort("10.96.0.1:53"),
	netip.AddrPortFrom(netip.MustParseAddr("10.96.0.1"), closedPort),
}

// A way is a way to dial one of the services.
type way struct {
	name    string
	method  string
	service netip.AddrPort
	local   net.Addr
}

// ways returns each way of the methods, with and without the local address.
func ways(local net.Addr, methods ...string) (ways []way) {
	for _, method := range methods {
		for _, service := range services {
			name := fmt.Sprintf("%s-%d", method, service.Port())
			ways = append(ways,
				way{name, method, service, nil},
				way{name + "-LocalAddr", method, service, local},
			)
		}
	}
	return ways
}

// dialer sets the local address of d, and returns d or its NetDialer.
func (w way) dialer(d *safedial.Dialer) dialer {
	d.LocalAddr = w.local
	if w.method == "NetDialer" {
		return d.NetDialer()
	}
	return d
}

// ask sends a datagram, and returns the answer.
func ask(t *testing.T, conn net.Conn) string {
	t.Helper()
	_, err := conn.Write([]byte("who are you"))
	require.NoError(t, err)
	return read(t, conn)
}

func read(t *testing.T, conn net.Conn) string {
	t.Helper()
	require.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	buffer := make([]byte, 100)
	n, err := conn.Read(buffer)
	require.NoError(t, err)
	return string(buffer[:n])
}
