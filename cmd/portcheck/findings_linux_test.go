package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial/internal/nstest"
)

// TestFindings makes each finding for real, and looks for it alone.
func TestFindings(t *testing.T) {
	for name, c := range map[string]struct {
		make    func(t *testing.T)
		kind    kind
		network string
		address string
		owned   bool
	}{
		"TCPToItself":     {connectToSelf("tcp", "127.0.0.1:40000"), selfConnection, "tcp", "127.0.0.1:40000", true},
		"TCP6ToItself":    {connectToSelf("tcp", "[::1]:40000"), selfConnection, "tcp", "[::1]:40000", true},
		"UDPToItself":     {connectToSelf("udp", "127.0.0.1:40000"), selfConnection, "udp", "127.0.0.1:40000", true},
		"UDP6ToItself":    {connectToSelf("udp", "[::1]:40000"), selfConnection, "udp", "[::1]:40000", true},
		"OutsideTheRange": {connectToSelf("tcp", "127.0.0.1:9000"), selfConnection, "tcp", "127.0.0.1:9000", true},
		"TimeWait":        {leaveTimeWait("127.0.0.1:40000"), timeWait, "tcp", "127.0.0.1:40000", false},
		"TimeWait6":       {leaveTimeWait("[::1]:40000"), timeWait, "tcp", "[::1]:40000", false},
		"TCPServer":       {listen("tcp", "127.0.0.1:40000"), server, "tcp", "127.0.0.1:40000", true},
		"TCP6Server":      {listen("tcp", "[::]:40099"), server, "tcp", "[::]:40099", true},
		"UDPServer":       {listen("udp", "127.0.0.1:40000"), server, "udp", "127.0.0.1:40000", true},
		"UDP6Server":      {listen("udp", "[::1]:40000"), server, "udp", "[::1]:40000", true},
	} {
		t.Run(name, func(t *testing.T) {
			nstest.Run(t, func(t *testing.T) {
				nstest.SetLocalPorts(t, 40000, 40099)
				requireNothing(t)
				c.make(t)
				want := finding{Kind: c.kind, Network: c.network, Address: netip.MustParseAddrPort(c.address)}
				if c.owned {
					want.Process = this(t)
				}
				status, found, text := look(t)
				assert.Equal(t, statusFound, status)
				assert.Equal(t, []finding{want}, found)
				assert.Contains(t, text, c.address)
				assert.Contains(t, text, c.kind.text(readLimitsOf(t).local))
				assert.Contains(t, text, "as root, for the whole host:")
				assert.Contains(t, text, "d := safedial.Dialer{")
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
		leaveTimeWait("127.0.0.1:40030")(t)
		listen("tcp", "[::]:40040")(t)
		listen("udp", "127.0.0.1:40041")(t)
		status, found, text := look(t)
		assert.Equal(t, statusFound, status)
		assert.Len(t, found, 5)
		assert.Contains(t, text, "sysctl net.ipv4.ip_local_reserved_ports=40010,40020,40030,40040-40041,40050\n")
		assert.Contains(t, text, "d := safedial.Dialer{AvoidPorts: safedial.Ports(40010, 40020, 40030, 40040, 40041)}\n")
		t.Logf("portcheck:\n%s", text)
	})
}

// TestSysctlKeepsReservedPorts: the sysctl replaces the list, so the line that is printed
// has every port that is reserved by now, however long the list.
func TestSysctlKeepsReservedPorts(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		var reserved []string
		for port := 41001; len(reserved) < 1000; port += 2 {
			reserved = append(reserved, strconv.Itoa(port))
		}
		nstest.SetReservedPorts(t, strings.Join(reserved, ","))
		listen("tcp", "127.0.0.1:40040")(t)
		_, _, text := look(t)
		assert.Contains(t, text, "ip_local_reserved_ports=40040,"+strings.Join(reserved, ",")+"\n")
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
		accepted(t)                                                                                     // two connected sockets
		accepted(t).Close()                                                                             // TIME_WAIT, but not to itself
		dial(t, "udp", "127.0.0.1:9", nil)                                                              // nobody answers
		dial(t, "udp", nstest.OwnAddress+":9001", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9001}) // the same port of another address
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
		listen("tcp", "127.0.0.1:40005")(t) // found once, and there all the time
		var first report
		require.NoError(t, reports.Decode(&first))
		require.Len(t, first.Findings, 1)
		for range 2 {
			l, err := net.Listen("tcp", "127.0.0.1:40000")
			require.NoError(t, err)
			var r report
			require.NoError(t, reports.Decode(&r))
			require.Len(t, r.Findings, 1)
			assert.Equal(t, server, r.Findings[0].Kind)
			assert.EqualValues(t, 40000, r.Findings[0].Address.Port())
			l.Close()
			// Two others, of which at least the second is found when the first server is gone.
			for _, port := range []uint16{40001, 40002} {
				l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
				require.NoError(t, err)
				r = report{}
				require.NoError(t, reports.Decode(&r))
				require.Len(t, r.Findings, 1)
				assert.Equal(t, port, r.Findings[0].Address.Port())
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

// look runs portcheck, once for each form of its output.
func look(t *testing.T) (status int, found []finding, text string) {
	t.Helper()
	var asText, asJSON, errs strings.Builder
	status = run(t.Context(), nil, &asText, &errs)
	require.Equal(t, status, run(t.Context(), []string{"-json"}, &asJSON, &errs))
	require.Empty(t, errs.String())
	var r report
	require.NoError(t, json.Unmarshal([]byte(asJSON.String()), &r))
	require.Equal(t, status == statusFound, r.Found)
	return status, r.Findings, asText.String()
}

func requireNothing(t *testing.T) {
	t.Helper()
	status, found, text := look(t)
	require.Equal(t, statusNone, status)
	require.Empty(t, found)
	require.Equal(t, "No socket is connected to itself, and no server has a port in the local port range 40000-40099.\n", text)
}

// this returns the process of the test.
func this(t *testing.T) *process {
	t.Helper()
	name, err := os.ReadFile("/proc/self/comm")
	require.NoError(t, err)
	return &process{PID: os.Getpid(), Name: strings.TrimSpace(string(name))}
}

func readLimitsOf(t *testing.T) limits {
	t.Helper()
	l, err := readLimits()
	require.NoError(t, err)
	return l
}

// dial dials with net, and keeps the connection for the test.
func dial(t *testing.T, network, address string, from net.Addr) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: from}
	conn, err := d.DialContext(t.Context(), network, address)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// connectToSelf connects a socket to itself.
func connectToSelf(network, address string) func(t *testing.T) {
	return func(t *testing.T) {
		from := netip.MustParseAddrPort(address)
		if network == "udp" {
			dial(t, network, address, net.UDPAddrFromAddrPort(from))
			return
		}
		dial(t, network, address, net.TCPAddrFromAddrPort(from))
	}
}

// leaveTimeWait closes a connection to itself.
func leaveTimeWait(address string) func(t *testing.T) {
	return func(t *testing.T) {
		require.NoError(t, dial(t, "tcp", address, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))).Close())
	}
}

func listen(network, address string) func(t *testing.T) {
	return func(t *testing.T) {
		var l io.Closer
		var err error
		if network == "udp" {
			l, err = net.ListenPacket(network, address)
		} else {
			l, err = net.Listen(network, address)
		}
		require.NoError(t, err)
		t.Cleanup(func() { l.Close() })
	}
}

// accepted returns the accepted end of a connection whose other end stays open.
func accepted(t *testing.T) net.Conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:39998")
	require.NoError(t, err)
	defer l.Close()
	dial(t, "tcp", l.Addr().String(), nil)
	conn, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}
