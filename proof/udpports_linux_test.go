package proof

import (
	"fmt"
	"net"
	"net/http/httptrace"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// TestUDPPeerFromOnlyPort dials peers that are not the socket itself from the destination's
// port, the only one that is left. No other socket can be asked who they are.
func TestUDPPeerFromOnlyPort(t *testing.T) {
	isolated(t, func(t *testing.T) {
		ip(t, "route", "add", "default", "dev", "lo")
		setLocalPorts(t, onlyPort, onlyPort)
		for _, host := range []string{
			"127.0.0.2",
			"127.255.255.255", // broadcast on lo
			"10.255.255.255",  // broadcast on the network of nstest.OwnAddress
			"255.255.255.255",
			"224.0.0.1",
		} {
			for _, local := range []net.Addr{nil, udp("", 0), udp("", onlyPort), udp("127.0.0.1", 0)} {
				address := net.JoinHostPort(host, fmt.Sprint(onlyPort))
				want := outcomeOf((&net.Dialer{LocalAddr: local}).Dial("udp", address))
				got := outcomeOf((&safedial.Dialer{LocalAddr: local}).Dial("udp", address))
				assert.Equal(t, want, got, "%s from %v", address, local)
			}
		}
	})
}

// TestUDPNoPortLeftIsBounded dials while every UDP port is taken. How many sockets and
// look-ups that costs follows from MaxRetries and from the parts of the local port range
// that are left between the ports to avoid, not from the length of AvoidPorts.
func TestUDPNoPortLeftIsBounded(t *testing.T) {
	tests := []struct {
		name  string
		avoid []safedial.PortRange
		parts int
	}{
		{"2,768 ports outside of the range", singlePorts(30000, 32767), 1},
		{"a range outside of the range", []safedial.PortRange{ports(30000, 32767)}, 1},
		{"port 0 1,000 times", safedial.Ports(make([]uint16, 1000)...), 1},
		{"one port 1,000 times", repeated(ports(40000, 40000), 1000), 1},
		{"all but the last", singlePorts(40000, 40006), 1},
		{"all but two", append(singlePorts(40000, 40002), singlePorts(40004, 40006)...), 2},
		{"every second", everySecond(40000, 40007), 4},
	}
	isolated(t, func(t *testing.T) {
		requirePortRange(t, "AvoidPorts hold")
		setLocalPorts(t, 40000, 40007)
		takeUDPPorts(t, 40000, 40007)
		for _, test := range tests {
			for _, local := range []net.Addr{nil, udp("127.0.0.1", 0)} {
				for _, retries := range []int{0, 2} {
					// The destination's own port may be one part more.
					most := (test.parts + 1) * (retries + 1)
					sockets, lookups := 0, 0
					d := safedial.Dialer{LocalAddr: local, AvoidPorts: test.avoid, MaxRetries: retries}
					if retries == 0 {
						d.MaxRetries = -1
					}
					d.Control = func(string, string, syscall.RawConn) error { sockets++; return nil }
					ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
						DNSStart: func(httptrace.DNSStartInfo) { lookups++ },
					})
					_, err := d.DialContext(ctx, "udp", "localhost:53")
					assert.True(t, noPort(err), "%s from %v: %.300v", test.name, local, err)
					assert.LessOrEqual(t, sockets, most, "%s from %v, %d retries: sockets", test.name, local, retries)
					assert.LessOrEqual(t, lookups, most, "%s from %v, %d retries: look-ups", test.name, local, retries)
				}
			}
		}
	})
}

// TestUDPNameGoesWhereNetDoes dials a name with two addresses while sockets of the first
// one's family have one side of the destination's port. Its other side is free.
func TestUDPNameGoesWhereNetDoes(t *testing.T) {
	isolated(t, func(t *testing.T) {
		nstest.Hosts(t, "::1 two\n127.0.0.1 two\n")
		setLocalPorts(t, 40000, 40003)
		for port := 40000; port <= 40001; port++ {
			packets, err := net.ListenUDP("udp6", udp("::1", port))
			require.NoError(t, err)
			defer packets.Close()
		}
		for _, local := range []net.Addr{nil, udp("", 0)} {
			want := peersOf(t, (&net.Dialer{LocalAddr: local}).Dial, "two:40002")
			require.Equal(t, map[string]int{"[::1]:40002": 100}, want, "net.Dialer")
			got := peersOf(t, (&safedial.Dialer{LocalAddr: local}).Dial, "two:40002")
			assert.Equal(t, want, got, "from %v", local)
		}
	})
}

// peersOf returns how many of 100 UDP dials lead to which address.
func peersOf(t *testing.T, dial dialFunc, address string) map[string]int {
	t.Helper()
	peers := map[string]int{}
	for range 100 {
		conn, err := dial("udp", address)
		require.NoError(t, err)
		peers[conn.RemoteAddr().String()]++
		conn.Close()
	}
	return peers
}

// TestUDPToPortZero dials port 0, at which a UDP socket has no peer that it could tell.
func TestUDPToPortZero(t *testing.T) {
	isolated(t, func(t *testing.T) {
		for _, address := range []string{":0", "0.0.0.0:0", "[::]:0", "127.0.0.1:0", "[::1]:0", "localhost:0"} {
			for _, local := range []net.Addr{nil, udp("", 0), udp("", 40000), udp("127.0.0.1", 0)} {
				want := outcomeOf((&net.Dialer{LocalAddr: local}).Dial("udp", address))
				for kind, dial := range dialsOf(&safedial.Dialer{LocalAddr: local}) {
					if kind == "NetDialer" && local != nil {
						continue // its errors do not include LocalAddr
					}
					assert.Equal(t, want, outcomeOf(dial("udp", address)), "%s to %s from %v", kind, address, local)
				}
			}
		}
	})
}

// outcomeOf returns the ends of a connection, without a port of the system's choice, or the
// text of the dial's error. It closes the connection.
func outcomeOf(conn net.Conn, err error) string {
	if err != nil {
		return err.Error()
	}
	defer nstest.Reset(conn)
	local := nstest.AddrPort(conn.LocalAddr())
	if local.Port() != onlyPort {
		return fmt.Sprintf("%s to %v", local.Addr(), conn.RemoteAddr())
	}
	return ends(conn)
}

// singlePorts returns the ports from low to high, each as a range of its own.
func singlePorts(low, high uint16) (list []safedial.PortRange) {
	for port := low; port <= high; port++ {
		list = append(list, ports(port, port))
	}
	return list
}

// repeated returns a list that has r n times.
func repeated(r safedial.PortRange, n int) (list []safedial.PortRange) {
	for range n {
		list = append(list, r)
	}
	return list
}
