package bpf

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// The backend on this host is dead, and has a port of the local port range. The port
// of the service tells that or does not: a self-connection must not hide behind it.
const deadPort = 40000

var (
	deadBackend  = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), deadPort)
	deadServices = []netip.AddrPort{netip.AddrPortFrom(serviceIP, 53), netip.AddrPortFrom(serviceIP, deadPort)}
)

// TestBalancerDeadTCP dials from a port range of one port, in which every connection
// to the dead backend is one of the socket to itself. A retry reaches the next
// backend.
func TestBalancerDeadTCP(t *testing.T) {
	inCgroup(t, func(t *testing.T) {
		live := neighbors[0].linkTCP(t, deadPort)
		nstest.SetLocalPorts(t, deadPort, deadPort)
		for _, c := range []struct {
			backends []netip.AddrPort
			answers  bool
		}{
			{[]netip.AddrPort{deadBackend}, false},
			{[]netip.AddrPort{deadBackend, live}, true},
			{[]netip.AddrPort{deadBackend, deadBackend, live}, true},
			{append(slices.Repeat([]netip.AddrPort{deadBackend}, 9), live), false}, // more than three attempts try
		} {
			for _, way := range deadWays(&net.TCPAddr{}, "Dialer", "NetDialer") {
				t.Run(fmt.Sprintf("%d backends, %s", len(c.backends), way.name), func(t *testing.T) {
					balance(t, way.service, c.backends...)
					conn, err := way.dialer(&safedial.Dialer{}).Dial("tcp", way.service.String())
					if c.answers {
						require.NoError(t, err)
						assert.Equal(t, live.String(), read(t, conn))
						reset(t, conn)
					} else {
						requireSelfConnect(t, conn, err, way.service)
					}
					nstest.RequireFree(t, deadPort)
				})
			}
		}
		requireEffect(t)
	})
}

// TestBalancerDeadTCPRange dials from a port range of a few ports, so that the dead
// backend refuses some connections, and the kernel answers others itself.
func TestBalancerDeadTCPRange(t *testing.T) {
	inCgroup(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, deadPort, deadPort+3)
		for _, way := range deadWays(&net.TCPAddr{}, "Dialer", "NetDialer") {
			t.Run(way.name, func(t *testing.T) {
				balance(t, way.service, deadBackend)
				retries := 0
				d := safedial.Dialer{OnRetry: func(_ context.Context, r safedial.Retry) {
					retries++
					assert.ErrorIs(t, r.Err, safedial.ErrSelfConnect)
				}}
				for range 50 {
					conn, err := way.dialer(&d).Dial("tcp", way.service.String())
					require.Nil(t, conn)
					require.ErrorIs(t, err, syscall.ECONNREFUSED)
					nstest.RequireFree(t, deadPort)
				}
				if way.service.Port() == deadPort {
					assert.Zero(t, retries, "the kernel was told to leave the port out")
				} else {
					assert.NotZero(t, retries, "the test does not show the effect")
				}
			})
		}
	})
}

// TestBalancerDeadUDP has the Dialer find the self-connection in what net returns,
// and dial again from another port.
func TestBalancerDeadUDP(t *testing.T) {
	inCgroup(t, func(t *testing.T) {
		live := neighbors[0].linkUDP(t, deadPort)
		nstest.SetLocalPorts(t, deadPort, deadPort+2)
		for name, backends := range map[string][]netip.AddrPort{
			"only backend": {deadBackend},
			"dead, live":   {deadBackend, live},
		} {
			for _, way := range deadWays(&net.UDPAddr{}, "Dialer") {
				t.Run(name+", "+way.name, func(t *testing.T) {
					b := balance(t, way.service, backends...)
					sockets := 0
					d := safedial.Dialer{MaxRetries: -1, Control: func(string, string, syscall.RawConn) error {
						sockets++
						return nil
					}}
					const dials = 100
					for range dials {
						conn, err := way.dialer(&d).Dial("udp", way.service.String())
						require.NoError(t, err)
						require.False(t, safedial.IsSelfConnect(conn), "%s to %s", conn.LocalAddr(), conn.RemoteAddr())
						conn.Close()
					}
					b.requireOnce(t, sockets)
					assert.Greater(t, sockets, dials, "the test does not show the effect")
				})
			}
		}
	})
}

// TestBalancerDeadUDPNetDialer shows a limit of NetDialer, which is documented. Its
// part ends before net connects the socket, once: the backend is not chosen yet, and
// a connect(2) to find out would choose another. Only the service's own port is
// left out. A caller can check the connection.
func TestBalancerDeadUDPNetDialer(t *testing.T) {
	inCgroup(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, deadPort, deadPort+2)
		for _, way := range deadWays(&net.UDPAddr{}, "NetDialer") {
			t.Run(way.name, func(t *testing.T) {
				b := balance(t, way.service, deadBackend)
				const dials = 100
				self := 0
				for range dials {
					conn, err := way.dialer(&safedial.Dialer{}).Dial("udp", way.service.String())
					require.NoError(t, err)
					if safedial.IsSelfConnect(conn) {
						self++
						assert.NotEqual(t, way.service.Port(), conn.RemoteAddr().(*net.UDPAddr).AddrPort().Port(), "the port that was dialed is left out")
					}
					conn.Close()
				}
				t.Logf("%d of %d connected to themselves", self, dials)
				b.requireOnce(t, dials)
			})
		}
	})
}

// TestBalancerSelfConnectAddr leaves UDP sockets only the backend's port: the
// self-connection is found when net has connected the socket, to the backend. The
// error has the address that was dialed, as every error of net.
func TestBalancerSelfConnectAddr(t *testing.T) {
	inCgroup(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, deadPort, deadPort)
		for network, ways := range map[string][]deadWay{
			"udp": deadWays(&net.UDPAddr{}, "Dialer"), // for NetDialer see its own test
			"tcp": deadWays(&net.TCPAddr{}, "Dialer", "NetDialer"),
		} {
			for _, way := range ways {
				t.Run(network+", "+way.name, func(t *testing.T) {
					b := balance(t, way.service, deadBackend)
					conn, err := way.dialer(&safedial.Dialer{MaxRetries: -1}).Dial(network, way.service.String())
					requireSelfConnect(t, conn, err, way.service)
					if network == "udp" && way.service.Port() != deadPort {
						sockets := 2 // the second one while the first is kept open
						if way.local != nil {
							sockets = 1 // bind(2) finds no port for the second
						}
						b.requireOnce(t, sockets)
					}
				})
			}
		}
	})
}

// A deadWay is a way to dial one of the deadServices.
type deadWay struct {
	name    string
	method  string
	service netip.AddrPort
	local   net.Addr
}

// deadWays returns each way of the methods, with and without the local address.
func deadWays(local net.Addr, methods ...string) (ways []deadWay) {
	for _, method := range methods {
		for _, service := range deadServices {
			name := fmt.Sprintf("%s of %s", method, service)
			ways = append(ways,
				deadWay{name, method, service, nil},
				deadWay{name + ", LocalAddr " + local.String(), method, service, local},
			)
		}
	}
	return ways
}

func (w deadWay) dialer(d *safedial.Dialer) dialer {
	d.LocalAddr = w.local
	if w.method == "NetDialer" {
		return d.NetDialer()
	}
	return d
}

// requireSelfConnect requires that the dial of address has failed because the socket
// was connected to itself.
func requireSelfConnect(t *testing.T, conn net.Conn, err error, address netip.AddrPort) {
	t.Helper()
	require.Nil(t, conn)
	require.ErrorIs(t, err, safedial.ErrSelfConnect)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	var op *net.OpError
	require.ErrorAs(t, err, &op)
	assert.Equal(t, address.String(), op.Addr.String(), "%v", err)
}

// requireEffect requires that a dial with net.Dialer, at the end of a test, keeps the
// port from a server.
func requireEffect(t *testing.T) {
	t.Helper()
	balance(t, deadServices[0], deadBackend)
	conn, err := net.Dial("tcp", deadServices[0].String())
	if err == nil {
		conn.Close()
	}
	_, err = net.Listen("tcp", deadBackend.String())
	require.ErrorIs(t, err, syscall.EADDRINUSE, "the test does not show the effect")
}

// reset closes the connection. A plain close would leave a TIME_WAIT, of a
// connection that has a real peer.
func reset(t *testing.T, conn net.Conn) {
	t.Helper()
	require.NoError(t, conn.(*net.TCPConn).SetLinger(0))
	require.NoError(t, conn.Close())
}
