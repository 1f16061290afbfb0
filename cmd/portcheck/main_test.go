package main

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial"
)

func TestParsePorts(t *testing.T) {
	args := []string{"40000", "127.0.0.1:40001", "[::1]:40002", ":40003", "http", "80"}
	ports, err := parsePorts(args)
	require.NoError(t, err)
	assert.Equal(t, []uint16{40000, 40001, 40002, 40003, 80}, ports)
	for _, arg := range []string{"", "0", "65536", "-1", "::1", "127.0.0.1:", "[::1", "no-service"} {
		_, err := parsePorts([]string{"80", arg})
		assert.Error(t, err, "%q", arg)
	}
}

func TestVerdicts(t *testing.T) {
	l := limits{
		local:    safedial.PortRange{Low: 40000, High: 40100},
		reserved: safedial.Ports(8080, 40010, 40011, 40012, 40050),
	}
	r := newReport(l, []uint16{5432, 40009, 40011, 40100, 40013, 40101}, nil)
	var atRisk []uint16
	for _, v := range r.Ports {
		if v.AtRisk {
			atRisk = append(atRisk, v.Port)
		}
	}
	assert.Equal(t, []uint16{40009, 40100, 40013}, atRisk)
	assert.True(t, r.Found)
	assert.Contains(t, r.ForGood, step{
		"reserve the port until the next boot, as root",
		"sysctl -w net.ipv4.ip_local_reserved_ports=8080,40009-40013,40050,40100",
	})
	assert.Equal(t, "d := safedial.Dialer{AvoidPorts: safedial.Ports(40009, 40013, 40100)}",
		r.ForGood[len(r.ForGood)-1].Command)

	r = newReport(l, []uint16{5432, 40050}, nil)
	assert.False(t, r.Found)
	assert.Empty(t, r.ForGood)
}

func TestRun(t *testing.T) {
	tests := []struct {
		name       string
		args       []string
		status     int
		out, error string
	}{
		{"help", []string{"-h"}, statusNone, help, ""},
		{"bad port", []string{"65536"}, statusError, "", `"65536" is not a port: `},
		{"port 0", []string{"0"}, statusError, "", `"0" is not a port that a server can have`},
		{"bad flag", []string{"-nope"}, statusError, "", "flag provided but not defined: -nope"},
		{"watch ports", []string{"-watch", "80"}, statusError, "", "-watch takes no ports"},
		{"system ports", []string{"-system", "80"}, statusError, "", "-system takes no ports"},
		{"system watch", []string{"-system", "-watch"}, statusError, "", "-system takes no ports"},
		{"never", []string{"-watch", "-every", "0"}, statusError, "", "-every 0s is not positive"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out, errs strings.Builder
			assert.Equal(t, test.status, run(t.Context(), test.args, &out, &errs))
			assert.Equal(t, test.out, out.String())
			if test.error == "" {
				assert.Empty(t, errs.String())
				return
			}
			line, rest, _ := strings.Cut(errs.String(), "\n")
			assert.True(t, strings.HasPrefix(line, "portcheck: "+test.error), line)
			assert.Equal(t, usage, rest)
		})
	}
}

// TestHelpIsTheDoc has the doc comment of the command say what -h says.
func TestHelpIsTheDoc(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "main.go", nil, parser.ParseComments)
	require.NoError(t, err)
	words := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	doc := words(file.Doc.Text())
	for paragraph := range strings.SplitSeq(strings.TrimPrefix(help, usage), "\n\n") {
		paragraph = strings.TrimPrefix(words(paragraph), "portcheck ")
		assert.Contains(t, doc, paragraph)
	}
	for line := range strings.Lines(strings.TrimPrefix(usage, "usage:")) {
		assert.Contains(t, doc, words(line))
	}
}

// TestProcessNames are what a program calls itself: anything.
func TestProcessNames(t *testing.T) {
	const name = "\x1b[2Ja\tb\n\u009b\x7f\u202e\U0001f600"
	tests := []struct{ name, want string }{
		{"curl", "curl (7)"},
		{"kworker/0:1", `"kworker/0:1" (7)`},
		{"tmux: server", `"tmux: server" (7)`},
		{"a (1): b", `"a (1): b" (7)`},
		{`a"b\`, `"a\"b\\" (7)`},
		{"", `"" (7)`},
		{"\xff", `"\xff" (7)`},
		{name, `"\x1b[2Ja\tb\n\u009b\x7f\u202e😀" (7)`},
	}
	for _, test := range tests {
		assert.Equal(t, test.want, process{7, test.name}.String())
	}

	s := socket{network: "tcp", state: "ESTABLISHED", inode: 1}
	r := newReport(limits{}, nil, []finding{s.finding(connection, []process{{7, name}})})
	var text, asJSON strings.Builder
	require.NoError(t, r.print(&text))
	require.NoError(t, r.printJSON(&asJSON, true))
	for _, c := range text.String() + asJSON.String() {
		require.False(t, c < ' ' && c != '\n' || c >= 0x7f && c < 0xa0 || c == '\u202e', "%q", c)
	}
	var decoded report
	require.NoError(t, json.Unmarshal([]byte(asJSON.String()), &decoded))
	assert.Equal(t, []process{{7, name}}, decoded.Sockets[0].Processes)
}

// TestProcessUnknown says who sees the processes of others.
func TestProcessUnknown(t *testing.T) {
	s := socket{network: "tcp", state: "ESTABLISHED", inode: 1}
	r := newReport(limits{}, nil, []finding{s.finding(connection, nil)})
	assert.Contains(t, r.Sockets[0].String(), " ESTABLISHED (process unknown): ")
	assert.Contains(t, r.Now, step{Do: seeAll})

	s = socket{network: "tcp", state: stateTimeWait, left: 42*time.Second + time.Millisecond}
	r = newReport(limits{}, nil, []finding{s.finding(connection, nil)})
	assert.Contains(t, r.Sockets[0].String(), " TIME_WAIT for 43 s (no process): ")
	assert.NotContains(t, r.Now, step{Do: seeAll})
	assert.Contains(t, r.Now, step{Do: "wait about 43 s"})
}
