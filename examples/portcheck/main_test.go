package main

import (
	"encoding/json"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial"
)

func TestParsePorts(t *testing.T) {
	ports, err := parsePorts([]string{"40000", "127.0.0.1:40001", "[::1]:40002", ":40003", "http"})
	require.NoError(t, err)
	assert.Equal(t, []uint16{40000, 40001, 40002, 40003, 80}, ports)
	for _, arg := range []string{"", "0", "65536", "-1", "::1", "127.0.0.1:", "[::1", "no-such-service"} {
		_, err := parsePorts([]string{"80", arg})
		assert.Error(t, err, "%q", arg)
	}
}

func TestCheck(t *testing.T) {
	local := safedial.PortRange{Low: 40000, High: 40100}
	reserved := []safedial.PortRange{{Low: 8080, High: 8080}, {Low: 40010, High: 40012}, {Low: 40050, High: 40050}}
	r := check(local, reserved, []uint16{5432, 40009, 40011, 40100, 40013, 40101, 40009})
	var atRisk []uint16
	for _, one := range r.Ports {
		if one.AtRisk {
			atRisk = append(atRisk, one.Port)
		}
	}
	assert.Equal(t, []uint16{40009, 40100, 40013, 40009}, atRisk)
	assert.True(t, r.AtRisk)
	assert.Equal(t, "net.ipv4.ip_local_reserved_ports=8080,40009-40013,40050,40100", r.Sysctl)
	assert.Equal(t, "8080,40010-40012,40050", r.Reserved)

	r = check(local, reserved, []uint16{5432, 40050})
	assert.False(t, r.AtRisk)
	assert.Empty(t, r.Sysctl)
}

func TestParseListening(t *testing.T) {
	const text = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0000000000000000 100 0 0 10 0
   1: 0100007F:9C40 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0000000000000000 100 0 0 10 0
`
	ports, err := parseListening(text)
	require.NoError(t, err)
	assert.Equal(t, []uint16{8080}, ports)
	for _, bad := range []string{"head\nx\n", "head\n0: 0100007F 0:0 0A\n", "head\n0: 0:1F9 0:0 0A\n", "head\n0: 0:ZZZZ 0:0 0A\n"} {
		_, err := parseListening(bad)
		assert.Error(t, err, "%q", bad)
	}
}

func TestRun(t *testing.T) {
	if _, err := os.Stat("/proc/net/tcp"); err != nil {
		t.Skip("needs Linux: ", err)
	}
	local, err := safedial.LocalPortRange()
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel picks it: at risk
	require.NoError(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)

	for _, c := range []struct {
		name       string
		args       []string
		status     int
		out, error string
	}{
		{"at risk", []string{port}, statusRisk, "sysctl net.ipv4.ip_local_reserved_ports=", ""},
		{"safe", []string{strconv.Itoa(int(local.Low) - 1)}, statusSafe, "safe", ""},
		{"all that listen", nil, statusRisk, port + "  at risk", ""},
		{"bad port", []string{"65536"}, statusError, "", "portcheck: \"65536\" is not a port"},
		{"bad flag", []string{"-nope"}, statusError, "", "portcheck: flag provided but not defined"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errs strings.Builder
			assert.Equal(t, c.status, run(c.args, &out, &errs))
			assert.Contains(t, out.String(), c.out)
			if c.error == "" {
				assert.Empty(t, errs.String())
				return
			}
			assert.Empty(t, out.String())
			assert.Contains(t, errs.String(), c.error)
			assert.Equal(t, 1, strings.Count(errs.String(), "\n"), "one line")
		})
	}

	var out, errs strings.Builder
	require.Equal(t, statusRisk, run([]string{"-json", port}, &out, &errs))
	var r report
	require.NoError(t, json.Unmarshal([]byte(out.String()), &r))
	require.Len(t, r.Ports, 1)
	assert.Equal(t, port, strconv.Itoa(int(r.Ports[0].Port)))
	assert.True(t, r.Ports[0].AtRisk && r.AtRisk)
	assert.Equal(t, local.String(), r.LocalPort)
}
