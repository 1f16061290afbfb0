package proof

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/safedial/safedial"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

const manyDials = 100_000

// TestUDPNeverSelfConnects dials a port that nobody has, of a range of twenty.
func TestUDPNeverSelfConnects(t *testing.T) {
	t.Parallel()
	nstest.Run(t, dialUDPDead)
}

// TestUDPNeverSelfConnectsWithoutPortRange is the same on a kernel before 6.3.
func TestUDPNeverSelfConnectsWithoutPortRange(t *testing.T) {
	t.Parallel()
	nstest.Run(t, func(t *testing.T) {
		withoutOptions(t, unix.IP_LOCAL_PORT_RANGE)
		dialUDPDead(t)
	})
}

func dialUDPDead(t *testing.T) {
	nstest.SetLocalPorts(t, 40000, 40019)
	const address = "127.0.0.1:40010"
	self := 0
	for range 4000 {
		conn, err := net.Dial("udp", address)
		require.NoError(t, err)
		if safedial.IsSelfConnect(conn) {
			self++
		}
		conn.Close()
	}
	t.Logf("net.Dialer: %d of 4000 UDP dials connected to themselves", self)
	require.NotZero(t, self, "the test does not show the effect")

	retries := 0
	d := safedial.Dialer{OnRetry: func(_ context.Context, r safedial.Retry) {
		retries++
		assert.ErrorIs(t, r.Err, safedial.ErrSelfConnect)
	}}
	for range manyDials {
		conn, err := d.Dial("udp", address)
		require.NoError(t, err)
		require.False(t, safedial.IsSelfConnect(conn), "%s to %s", conn.LocalAddr(), conn.RemoteAddr())
		conn.Close()
	}
	t.Logf("safedial: 0 of %d, %d retries", manyDials, retries)
	if !portable {
		assert.Zero(t, retries, "another port is no retry")
	}
}

// TestUDPConfigurations goes through the ways to dial UDP, with port ranges of one
// to four ports.
func TestUDPConfigurations(t *testing.T) {
	t.Parallel()
	nstest.Run(t, dialEveryUDP)
}

// TestUDPConfigurationsWithoutPortRange is the same on a kernel before 6.3.
func TestUDPConfigurationsWithoutPortRange(t *testing.T) {
	t.Parallel()
	nstest.Run(t, func(t *testing.T) {
		withoutOptions(t, unix.IP_LOCAL_PORT_RANGE)
		dialEveryUDP(t)
	})
}

// udpLocals are the ways to have the local port picked.
var udpLocals = map[string]func(own string, port uint16) net.Addr{
	"kernel's choice":      func(string, uint16) net.Addr { return nil },
	"typed nil LocalAddr":  func(string, uint16) net.Addr { return (*net.UDPAddr)(nil) },
	"LocalAddr of zero":    func(string, uint16) net.Addr { return &net.UDPAddr{} },
	"LocalAddr IP:0":       func(own string, _ uint16) net.Addr { return &net.UDPAddr{IP: net.ParseIP(own)} },
	"LocalAddr IP:port":    func(own string, port uint16) net.Addr { return &net.UDPAddr{IP: net.ParseIP(own), Port: int(port)} },
	"LocalAddr other port": func(own string, _ uint16) net.Addr { return &net.UDPAddr{IP: net.ParseIP(own), Port: 9999} },
}

func dialEveryUDP(t *testing.T) {
	ways := map[string]func(d *safedial.Dialer, network, address string) (net.Conn, error){
		"DialContext": func(d *safedial.Dialer, network, address string) (net.Conn, error) { return d.Dial(network, address) },
		"NetDialer": func(d *safedial.Dialer, network, address string) (net.Conn, error) {
			return d.NetDialer().Dial(network, address)
		},
		"DialUDP": func(d *safedial.Dialer, network, address string) (net.Conn, error) {
			remote, err := net.ResolveUDPAddr(network, address)
			require.NoError(t, err)
			local, _ := d.LocalAddr.(*net.UDPAddr)
			return nstest.NetConn(d.DialUDP(t.Context(), network, orUnspecified((*net.TCPAddr)(local)), orUnspecified((*net.TCPAddr)(remote))))
		},
	}
	if portable {
		delete(ways, "NetDialer") // nothing checks its connections
	}
	configurations := 0
	for width := uint16(1); width <= 4; width++ {
		system := ports(40000, 40000+width-1)
		setLocalPorts(t, system)
		for port := system.Low - 1; port <= system.High+1; port++ {
			for _, c := range nstest.Destinations {
				network := "udp" + c.Network[3:]
				for localName, local := range udpLocals {
					for wayName, dial := range ways {
						name := fmt.Sprintf("%s %s %q port %d of %s, %s", wayName, network, c.Host, port, system, localName)
						for range 3 {
							d := safedial.Dialer{LocalAddr: local(c.Own, port)}
							conn, err := dial(&d, network, c.Address(port))
							if localName == "LocalAddr IP:port" || system == ports(port, port) && localName != "LocalAddr other port" {
								require.Nil(t, conn, name)
								assertRefused(t, err, network, name)
								continue
							}
							if wayName == "NetDialer" && err != nil {
								// It has no second try.
								require.ErrorIs(t, err, safedial.ErrSelfConnect, name)
								continue
							}
							require.NoError(t, err, name)
							require.IsType(t, (*net.UDPConn)(nil), conn, name)
							require.False(t, safedial.IsSelfConnect(conn), name)
							conn.Close()
						}
						configurations++
					}
				}
			}
		}
	}
	t.Logf("%d configurations", configurations)
}

// TestUDPRetries is in a range of one port: while the first socket is on hold the
// others find no port, and all are gone in the end.
func TestUDPRetries(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, onlyPort, onlyPort)
		descriptors := nstest.OpenDescriptors(t)
		for maxRetries, want := range map[int]int{-1: 0, 0: 2, 5: 5} {
			for _, local := range []net.Addr{nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}} {
				retries := 0
				d := safedial.Dialer{LocalAddr: local, MaxRetries: maxRetries, OnRetry: func(context.Context, safedial.Retry) { retries++ }}
				conn, err := d.Dial("udp", "127.0.0.1:40000")
				require.Nil(t, conn)
				assertRefused(t, err, "udp")
				assert.Equal(t, want, retries, "MaxRetries %d from %v", maxRetries, local)
				assert.Equal(t, descriptors, nstest.OpenDescriptors(t))

				packets, err := net.ListenPacket("udp", "127.0.0.1:40000")
				require.NoError(t, err, "the port is not free")
				packets.Close()
			}
		}
	})
}

// TestUDPTalks exchanges datagrams with a real peer.
func TestUDPTalks(t *testing.T) {
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer packets.Close()
	go func() {
		buffer := make([]byte, 100)
		n, from, err := packets.ReadFrom(buffer)
		if err == nil {
			_, _ = packets.WriteTo(append([]byte("re: "), buffer[:n]...), from)
		}
	}()
	conn, err := safedial.Dial("udp", packets.LocalAddr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = conn.Write([]byte("hello"))
	require.NoError(t, err)
	buffer := make([]byte, 100)
	n, err := conn.Read(buffer)
	require.NoError(t, err)
	assert.Equal(t, "re: hello", string(buffer[:n]))
}
