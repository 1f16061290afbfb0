package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial/internal/nstest"
)

const inUse = "bind: address already in use"

// portTests have what bind(2) says and the lines that are printed, in which ME is the
// process of the test.
var portTests = []struct {
	name string
	make func(t *testing.T)
	bind string
	want []string
}{
	{"Nothing", func(*testing.T) {}, bindOK, []string{"no socket has port 40000"}},
	{
		"Connection", connectFrom("127.0.0.1:40000", "127.0.0.1:8080"), inUse,
		[]string{"tcp 127.0.0.1:40000 → 127.0.0.1:8080 ESTABLISHED ME: " +
			"an ordinary connection has the port"},
	},
	{
		"Connection6", connectFrom("[::1]:40000", "[::1]:8080"), inUse,
		[]string{"tcp [::1]:40000 → [::1]:8080 ESTABLISHED ME: an ordinary connection has the port"},
	},
	{
		"Self", connectToSelf("tcp", "127.0.0.1:40000"), inUse,
		[]string{"tcp 127.0.0.1:40000 → 127.0.0.1:40000 ESTABLISHED ME: " +
			"is connected to itself; no server can start on the port"},
	},
	{
		"Server", listen("tcp", "[::]:40000"), inUse,
		[]string{"tcp [::]:40000 LISTEN ME: a server has the port"},
	},
	{
		"UDPServer", listen("udp", "127.0.0.1:40000"), bindOK,
		[]string{"udp 127.0.0.1:40000 UNCONN ME: a server has the port"},
	},
	{
		"Accepted", connectFrom("127.0.0.1:40001", "127.0.0.1:40000"), inUse,
		[]string{
			"tcp 127.0.0.1:40000 LISTEN ME: a server has the port",
			"tcp 127.0.0.1:40000 → 127.0.0.1:40001 ESTABLISHED (no process): " +
				"a connection of the server that listens on the port",
		},
	},
	{
		"OfAnotherAddress", func(t *testing.T) {
			listen("tcp", nstest.OwnAddress+":40000")(t)
			connectFrom("127.0.0.1:40000", "127.0.0.1:8080")(t)
		},
		inUse,
		[]string{
			"tcp 127.0.0.1:40000 → 127.0.0.1:8080 ESTABLISHED ME: an ordinary connection has the port",
			"tcp " + nstest.OwnAddress + ":40000 LISTEN ME: a server has the port",
		},
	},
}

// TestPort lists whatever has port 40000.
func TestPort(t *testing.T) {
	for _, test := range portTests {
		t.Run(test.name, func(t *testing.T) {
			nstest.Run(t, func(t *testing.T) {
				nstest.SetLocalPorts(t, 40000, 40099)
				test.make(t)
				listen("tcp", "127.0.0.1:40044")(t) // not asked for
				r, text := look(t, "40000")
				const reason = "in the local port range 40000-40099, " +
					"so any outgoing connection may have it"
				assert.Equal(t, []verdict{{40000, true, reason, test.bind}}, r.Ports)
				server := "can listen on it now"
				if test.bind == inUse {
					server = "can't listen on it now: " + inUse
				}
				lines, _, _ := strings.Cut(text, "\n\n")
				want := "port 40000: at risk, " + reason + "\n" +
					"port 40000: a TCP server on all addresses, with SO_REUSEADDR, " + server + "\n" +
					strings.ReplaceAll(strings.Join(test.want, "\n"), "ME", this(t).String())
				assert.Equal(t, want, strings.TrimSpace(lines))
				if len(r.Sockets) > 0 {
					assert.Contains(t, commands(r.Now), fmt.Sprintf("kill %d", os.Getpid()))
				}
				if test.name == "OfAnotherAddress" {
					assert.NotContains(t, text, "ss -K", "it would end the server")
				}
			})
		})
	}
}

// TestBoundPort lists a socket that is bound, and nothing else.
func TestBoundPort(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		requireKernel(t, 6, 8)
		bindOnly(40000)(t)
		_, err := net.Listen("tcp", "127.0.0.1:40000")
		require.Error(t, err)
		_, text := look(t, "40000")
		assert.Contains(t, text, "tcp 127.0.0.1:40000 BOUND "+this(t).String()+": a socket is bound")
		assert.NotContains(t, text, "ss -K", "it would not free the port")
	})
}

// TestPortOutside has nothing to say of a free port that the kernel does not choose, and
// finds a socket that has such a port.
func TestPortOutside(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, 40000, 40099)
		nstest.SetReservedPorts(t, "40050")
		r, text := look(t, "8080", "40050", "8080")
		assert.False(t, r.Found)
		const server = "a TCP server on all addresses, with SO_REUSEADDR, can listen on it now\n"
		assert.Equal(t, "port 8080: not at risk, outside of the local port range 40000-40099\n"+
			"port 8080: "+server+
			"port 40050: not at risk, in the local port range 40000-40099, but reserved\n"+
			"port 40050: "+server+
			"no socket has port 8080\nno socket has port 40050\n", text)
		listen("tcp", "127.0.0.1:8080")(t)
		r, _ = look(t, "8080")
		assert.True(t, r.Found)
		assert.Empty(t, r.ForGood)
	})
}

// TestPortOfStoppedServer has connections that the server has accepted and closed. They do
// not keep it from starting again, so there is nothing to do now.
func TestPortOfStoppedServer(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:40000")
		require.NoError(t, err)
		client := dial(t, "tcp", "127.0.0.1:40000", nil)
		conn, err := l.Accept()
		require.NoError(t, err)
		closeBoth(t, conn, client)
		require.NoError(t, l.Close())
		r, text := look(t, "40000")
		require.Len(t, r.Sockets, 1)
		assert.Equal(t, stateTimeWait, r.Sockets[0].State)
		assert.Contains(t, text, ", with SO_REUSEADDR, can listen on it now\n")
		assert.Equal(t, bindOK, r.Ports[0].Bind)
		assert.Empty(t, r.Now)
		nstest.Serve(t, "tcp", "127.0.0.1:40000")
	})
}

// TestSecondsLeft has the rest of TIME_WAIT from the kernel.
func TestSecondsLeft(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		closeFrom("127.0.0.1:40000", "127.0.0.1:8080")(t)
		r, text := look(t, "40000")
		require.Len(t, r.Sockets, 1)
		f := r.Sockets[0]
		assert.Equal(t, connection, f.Kind)
		assert.Equal(t, stateTimeWait, f.State)
		assert.InDelta(t, 50, f.SecondsLeft, 10)
		assert.Regexp(t, ` TIME_WAIT for (60|5\d|4\d) s \(no process\): an ordinary`, text)
		assert.Regexp(t, `wait about (60|5\d|4\d) s\n`, text)
		assert.Empty(t, f.Processes)
	})
}

// TestPrintedCommandFrees runs the command that is printed as it is printed.
func TestPrintedCommandFrees(t *testing.T) {
	tests := []struct {
		name string
		make func(t *testing.T)
	}{
		{"Self", connect("127.0.0.1:40000")},
		{"Self6", connect("[::1]:40000")},
		{"SelfTimeWait", leaveTimeWait("tcp", "127.0.0.1:40000")},
		{"SelfTimeWait6", leaveTimeWait("tcp", "[::1]:40000")},
		{"Connection", serveAndConnect("127.0.0.1:8080")},
		{"Connection6", serveAndConnect("[::1]:8080")},
		{"TimeWait", closeFrom("127.0.0.1:40000", "127.0.0.1:8080")},
		{"TimeWait6", closeFrom("[::1]:40000", "[::1]:8080")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			nstest.Run(t, func(t *testing.T) {
				nstest.Program(t, "ss", "iproute2")
				requireKernel(t, 6, 0)
				nstest.SetLocalPorts(t, 40000, 40000)
				test.make(t)
				_, err := net.Listen("tcp", ":40000")
				require.Error(t, err)
				r, _ := look(t, "40000")
				var closing string
				for _, command := range commands(r.Now) {
					if strings.HasPrefix(command, "ss ") {
						closing = command
					}
				}
				require.NotEmpty(t, closing)
				output, err := exec.Command("sh", "-c", closing).CombinedOutput()
				require.NoError(t, err, "%s: %s", closing, output)
				nstest.RequireFree(t, 40000, "after %s: %s", closing, output)
				t.Logf("%s freed the port:\n%s", closing, output)
			})
		})
	}
}

// TestNameOfProcess has a name from the kernel that would do something to a terminal.
func TestNameOfProcess(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		require.NoError(t, os.WriteFile("/proc/self/comm", []byte("\x1b[31mx\ty\nz"), 0))
		listen("tcp", "127.0.0.1:40000")(t)
		r, text := look(t, "40000")
		require.Len(t, r.Sockets, 1)
		assert.Equal(t, []process{{os.Getpid(), "\x1b[31mx\ty\nz"}}, r.Sockets[0].Processes)
		assert.Contains(t, text, fmt.Sprintf(` LISTEN "\x1b[31mx\ty\nz" (%d): `, os.Getpid()))
		assert.NotContains(t, text, "\x1b")
	})
}
