package bpf

import (
	"context"
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

// closedBackend is a backend on this host on which no server listens.
var closedBackend = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), closedPort)

// TestClosedBackendTCP shows that a TCP dial whose backend is the dialing socket fails, or
// reaches the next backend by a retry, and leaves the port free. The local port range has one
// port, so that each connection to the closed backend is a self-connection.
func TestClosedBackendTCP(t *testing.T) {
	inCgroup(t, func(t *testing.T) {
		live := neighbors[0].linkTCP(t, closedPort)
		nstest.SetLocalPorts(t, closedPort, closedPort)
		tests := []struct {
			name    string
			closed  int // backends, before the live one
			live    bool
			answers bool
		}{
			{name: "one-closed", closed: 1},
			{name: "one-closed-then-live", closed: 1, live: true, answers: true},
			{name: "two-closed-then-live", closed: 2, live: true, answers: true},
			{name: "more-closed-than-attempts", closed: 9, live: true},
		}
		for _, tt := range tests {
			backends := slices.Repeat([]netip.AddrPort{closedBackend}, tt.closed)
			if tt.live {
				backends = append(backends, live)
			}
			for _, way := range ways(&net.TCPAddr{}, "Dialer", "NetDialer") {
				t.Run(tt.name+"/"+way.name, func(t *testing.T) {
					balance(t, way.service, backends...)
					d := way.dialer(&safedial.Dialer{})
					conn, err := d.Dial("tcp", way.service.String())
					if tt.answers {
						require.NoError(t, err)
						assert.Equal(t, live.String(), read(t, conn))
						nstest.Reset(conn) // a TIME_WAIT would keep the port
					} else {
						requireSelfConnect(t, conn, err, way.service)
					}
					nstest.RequireFree(t, closedPort)
				})
			}
		}
		requireNetDialerTakesPort(t)
	})
}

// TestClosedBackendTCPRange shows that TCP dials are refused and leave the port free if the
// local port range has a few ports, of which some lead to a self-connection.
func TestClosedBackendTCPRange(t *testing.T) {
	inCgroup(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, closedPort, closedPort+3)
		for _, way := range ways(&net.TCPAddr{}, "Dialer", "NetDialer") {
			t.Run(way.name, func(t *testing.T) {
				balance(t, way.service, closedBackend)
				retries := 0
				d := way.dialer(&safedial.Dialer{OnRetry: func(_ context.Context, r safedial.Retry) {
					retries++
					assert.ErrorIs(t, r.Err, safedial.ErrSelfConnect)
				}})
				for range 50 {
					conn, err := d.Dial("tcp", way.service.String())
					require.Nil(t, conn)
					require.ErrorIs(t, err, syscall.ECONNREFUSED)
					nstest.RequireFree(t, closedPort)
				}
				if way.service.Port() == closedPort {
					assert.Zero(t, retries, "the kernel was told to leave the port out")
				} else {
					assert.NotZero(t, retries, "no dial connected to itself")
				}
			})
		}
	})
}

// TestClosedBackendUDP shows that the Dialer returns no self-connection to a UDP backend: it
// finds it in the connection that net returns, and dials again from another port.
func TestClosedBackendUDP(t *testing.T) {
	inCgroup(t, func(t *testing.T) {
		live := neighbors[0].linkUDP(t, closedPort)
		nstest.SetLocalPorts(t, closedPort, closedPort+2)
		tests := []struct {
			name     string
			backends []netip.AddrPort
		}{
			{name: "closed", backends: []netip.AddrPort{closedBackend}},
			{name: "closed-then-live", backends: []netip.AddrPort{closedBackend, live}},
		}
		for _, tt := range tests {
			for _, way := range ways(&net.UDPAddr{}, "Dialer") {
				t.Run(tt.name+"/"+way.name, func(t *testing.T) {
					b := balance(t, way.service, tt.backends...)
					sockets := 0
					control := func(string, string, syscall.RawConn) error {
						sockets++
						return nil
					}
					d := way.dialer(&safedial.Dialer{MaxRetries: -1, Control: control})
					const dials = 100
					for range dials {
						conn, err := d.Dial("udp", way.service.String())
						require.NoError(t, err)
						require.False(t, safedial.IsSelfConnect(conn), "to %s", conn.RemoteAddr())
						conn.Close()
					}
					b.requireOnce(t, sockets)
					assert.Greater(t, sockets, dials, "no dial connected to itself")
				})
			}
		}
	})
}

// TestClosedBackendUDPNetDialer shows the limit of NetDialer that is documented: its UDP
// dials leave only the service's port out, and may connect to a backend that is the dialing
// socket. NetDialer's part ends before net connects the socket, once. A connect(2) to find
// out the backend would choose another. A caller can check the connection.
func TestClosedBackendUDPNetDialer(t *testing.T) {
	inCgroup(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, closedPort, closedPort+2)
		for _, way := range ways(&net.UDPAddr{}, "NetDialer") {
			t.Run(way.name, func(t *testing.T) {
				b := balance(t, way.service, closedBackend)
				d := way.dialer(&safedial.Dialer{})
				const dials = 100
				self := 0
				for range dials {
					conn, err := d.Dial("udp", way.service.String())
					require.NoError(t, err)
					if safedial.IsSelfConnect(conn) {
						self++
						assert.NotEqual(t, way.service.Port(), nstest.AddrPort(conn.RemoteAddr()).Port())
					}
					conn.Close()
				}
				t.Logf("%d of %d connected to themselves", self, dials)
				b.requireOnce(t, dials)
			})
		}
	})
}

// TestSelfConnectAddr shows that the error of a self-connection has the address that was
// dialed, as every error of net, and not the backend's. The local port range has only the
// backend's port.
func TestSelfConnectAddr(t *testing.T) {
	inCgroup(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, closedPort, closedPort)
		tests := []struct {
			name string
			ways []way
		}{
			{name: "tcp", ways: ways(&net.TCPAddr{}, "Dialer", "NetDialer")},
			{name: "udp", ways: ways(&net.UDPAddr{}, "Dialer")}, // NetDialer's dials succeed
		}
		for _, tt := range tests {
			for _, way := range tt.ways {
				t.Run(tt.name+"/"+way.name, func(t *testing.T) {
					b := balance(t, way.service, closedBackend)
					d := way.dialer(&safedial.Dialer{MaxRetries: -1})
					conn, err := d.Dial(tt.name, way.service.String())
					requireSelfConnect(t, conn, err, way.service)
					if tt.name == "udp" && way.service.Port() != closedPort {
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

// requireSelfConnect requires that the dial of address failed because the socket was
// connected to itself.
func requireSelfConnect(t *testing.T, conn net.Conn, err error, address netip.AddrPort) {
	t.Helper()
	require.Nil(t, conn)
	require.ErrorIs(t, err, safedial.ErrSelfConnect)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	assert.Equal(t, address.String(), nstest.OpError(t, err).Addr.String(), "%v", err)
}

// requireNetDialerTakesPort requires that a dial with net.Dialer keeps the port from a server.
// Its socket keeps the port after the test, which must therefore end.
func requireNetDialerTakesPort(t *testing.T) {
	t.Helper()
	balance(t, services[0], closedBackend)
	conn, err := net.Dial("tcp", services[0].String())
	if err == nil {
		conn.Close()
	}
	_, err = net.Listen("tcp", closedBackend.String())
	require.ErrorIs(t, err, syscall.EADDRINUSE, "net.Dialer does not connect to itself")
}
