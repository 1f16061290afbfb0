package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial/internal/netns"
	"github.com/safedial/safedial/internal/nstest"
)

// TestHost makes each finding for real, and looks for it alone.
func TestHost(t *testing.T) {
	const established = "ESTABLISHED"
	tests := []struct {
		name             string
		make             func(network, address string) func(t *testing.T)
		network, address string
		kind             kind
		state            string
	}{
		{"TCPToItself", connectToSelf, "tcp", "127.0.0.1:40000", selfConnection, established},
		{"TCP6ToItself", connectToSelf, "tcp", "[::1]:40000", selfConnection, established},
		{"UDPToItself", connectToSelf, "udp", "127.0.0.1:40000", selfConnection, established},
		{"UDP6ToItself", connectToSelf, "udp", "[::1]:40000", selfConnection, established},
		{"Outside", connectToSelf, "tcp", "127.0.0.1:9000", selfConnection, established},
		{"TimeWait", leaveTimeWait, "tcp", "127.0.0.1:40000", selfConnection, stateTimeWait},
		{"TimeWait6", leaveTimeWait, "tcp", "[::1]:40000", selfConnection, stateTimeWait},
		{"TCPServer", listen, "tcp", "127.0.0.1:40000", serverAtRisk, stateListen},
		{"TCP6Server", listen, "tcp", "[::]:40099", serverAtRisk, stateListen},
		{"UDPServer", listen, "udp", "127.0.0.1:40000", serverAtRisk, stateUnconnected},
		{"UDP6Server", listen, "udp", "[::1]:40000", serverAtRisk, stateUnconnected},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			nstest.Run(t, func(t *testing.T) {
				nstest.SetLocalPorts(t, 40000, 40099)
				requireNothing(t)
				test.make(test.network, test.address)(t)
				r, text := look(t)
				require.Len(t, r.Sockets, 1)
				f := r.Sockets[0]
				assert.Equal(t, test.kind, f.Kind)
				assert.Equal(t, test.network, f.Network)
				assert.Equal(t, test.address, f.Local.String())
				assert.Equal(t, test.state, f.State)
				if test.kind == selfConnection {
					assert.Equal(t, f.Local, f.Remote)
					assert.NotEmpty(t, r.Now)
				} else {
					assert.Empty(t, r.Now)
				}
				if test.state == stateTimeWait {
					assert.Empty(t, f.Processes)
					assert.Contains(t, text, " (no process): ")
				} else {
					assert.Equal(t, []process{this(t)}, f.Processes)
				}
				assert.False(t, f.Unknown)
				assert.Contains(t, commands(r.ForGood)[len(r.ForGood)-1], "d := safedial.Dialer{")
			})
		})
	}
}

// TestOneOfEach makes one of each finding, and prints them.
func TestOneOfEach(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, 40000, 40099)
		nstest.SetReservedPorts(t, "40050")
		connectToSelf("tcp", "127.0.0.1:40010")(t)
		connectToSelf("udp", "[::1]:40020")(t)
		leaveTimeWait("tcp", "127.0.0.1:40030")(t)
		listen("tcp", "[::]:40040")(t)
		listen("udp", "127.0.0.1:40041")(t)
		r, text := look(t)
		assert.Len(t, r.Sockets, 5)
		const ports = "40010,40020,40030,40040-40041,40050"
		const sysctl = "net.ipv4.ip_local_reserved_ports=" + ports
		assert.Subset(t, commands(r.ForGood), []string{
			"sysctl -w " + sysctl,
			sysctl,
			"docker run --sysctl " + sysctl,
			`sysctls: [{name: net.ipv4.ip_local_reserved_ports, value: "` + ports + `"}]`,
			"d := safedial.Dialer{AvoidPorts: safedial.Ports(40010, 40020, 40030, 40040, 40041)}",
		})
		t.Logf("portcheck:\n%s", text)
	})
}

// TestSysctlKeepsReservedPorts reserves ports in a list that is longer than one read(2).
func TestSysctlKeepsReservedPorts(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		var reserved []string
		for port := 41001; len(reserved) < 1000; port += 2 {
			reserved = append(reserved, strconv.Itoa(port))
		}
		nstest.SetReservedPorts(t, strings.Join(reserved, ","))
		listen("tcp", "127.0.0.1:40040")(t)
		r, _ := look(t)
		assert.Contains(t, commands(r.ForGood),
			"sysctl -w net.ipv4.ip_local_reserved_ports=40040,"+strings.Join(reserved, ","))
	})
}

// TestReservedPortsUnknown prints no sysctl, because it would replace a list that
// portcheck does not know.
func TestReservedPortsUnknown(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, 40000, 40099)
		require.NoError(t, netns.Cover(nstest.ReservedPortsFile, "40000-\n"))
		listen("tcp", "127.0.0.1:40040")(t)
		for _, args := range [][]string{nil, {"40040"}} {
			r, text := look(t, args...)
			assert.Len(t, r.Sockets, 1)
			assert.NotContains(t, text, "reserved_ports=")
			assert.NotContains(t, text, "sysctls:")
			assert.Contains(t, text, "can't be read")
		}
		var out strings.Builder
		require.Equal(t, statusFound, run(t.Context(), []string{"-json"}, &out, io.Discard))
		assert.Contains(t, out.String(), `"ip_local_reserved_ports": null`)
		assert.Contains(t, out.String(), `"ip_local_reserved_ports_error": "safedial: reserved ports: `)
	})
}

// TestNothing looks for findings where there are sockets of every other kind.
func TestNothing(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, 40000, 40099)
		nstest.SetReservedPorts(t, "40050")
		listen("tcp", "127.0.0.1:9000")(t)
		listen("udp", "[::1]:9000")(t)
		listen("tcp", "127.0.0.1:39999")(t)
		listen("udp", "127.0.0.1:40100")(t)
		listen("tcp", "127.0.0.1:40050")(t) // reserved
		listen("udp", "127.0.0.1:40050")(t)
		connectFrom("127.0.0.1:40001", "127.0.0.1:39998")(t)
		closeFrom("127.0.0.1:40002", "127.0.0.1:39997")(t) // TIME_WAIT, but not to itself
		dial(t, "udp", "127.0.0.1:9", nil)                 // nobody answers
		// The same port of another address.
		from := net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9001}
		dial(t, "udp", nstest.OwnAddress+":9001", &from)
		requireNothing(t)
	})
}

// TestWatch prints a finding once, and again when it has gone and come back.
func TestWatch(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, 40000, 40099)
		ctx, cancel := context.WithCancel(t.Context())
		out, in := io.Pipe()
		status := make(chan int)
		go func() { status <- run(ctx, []string{"-watch", "-json", "-every", "1ms"}, in, io.Discard) }()
		reports := json.NewDecoder(bufio.NewReader(out))
		requireNext := func(port uint16) {
			t.Helper()
			var r report
			require.NoError(t, reports.Decode(&r))
			require.Len(t, r.Sockets, 1)
			assert.Equal(t, serverAtRisk, r.Sockets[0].Kind)
			assert.Equal(t, port, r.Sockets[0].Local.Port())
		}

		listen("tcp", "127.0.0.1:40005")(t) // found once, and there all the time
		requireNext(40005)
		for range 2 {
			// Two others follow, of which at least the second is found when the first is gone.
			for _, port := range []uint16{40000, 40001, 40002} {
				l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
				require.NoError(t, err)
				requireNext(port)
				l.Close()
			}
		}
		cancel()
		assert.Equal(t, statusFound, <-status)
	})
}

// TestWatchNothing ends with status 0.
func TestWatchNothing(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var out, errs strings.Builder
		assert.Equal(t, statusNone, run(ctx, []string{"-watch"}, &out, &errs))
		assert.Empty(t, out.String())
		assert.Empty(t, errs.String())
	})
}
