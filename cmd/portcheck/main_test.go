package main

import (
	"encoding/json"
	"errors"
	"io"
	"net"
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

func TestVerdicts(t *testing.T) {
	l := limits{
		local:    safedial.PortRange{Low: 40000, High: 40100},
		reserved: []safedial.PortRange{{Low: 8080, High: 8080}, {Low: 40010, High: 40012}, {Low: 40050, High: 40050}},
	}
	r := report{limits: l, Ports: l.verdicts([]uint16{5432, 40009, 40011, 40100, 40013, 40101, 40009})}
	r.cure()
	var atRisk []uint16
	for _, v := range r.Ports {
		if v.AtRisk {
			atRisk = append(atRisk, v.Port)
		}
	}
	assert.Equal(t, []uint16{40009, 40100, 40013, 40009}, atRisk)
	assert.True(t, r.Found)
	assert.Equal(t, "net.ipv4.ip_local_reserved_ports=8080,40009-40013,40050,40100", r.Sysctl)
	assert.Equal(t, "d := safedial.Dialer{AvoidPorts: safedial.Ports(40009, 40013, 40100)}", r.Dialer)

	r = report{limits: l, Ports: l.verdicts([]uint16{5432, 40050})}
	r.cure()
	assert.False(t, r.Found)
	assert.Empty(t, r.Sysctl)
	assert.Empty(t, r.Dialer)
}

func TestRun(t *testing.T) {
	local, err := safedial.LocalPortRange()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel chooses it: at risk
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
		{"at risk", []string{port}, statusFound, "sysctl net.ipv4.ip_local_reserved_ports=", ""},
		{"safe", []string{"1"}, statusNone, "safe", ""},
		{"help", []string{"-h"}, statusNone, "usage: portcheck", ""},
		{"bad port", []string{"65536"}, statusError, "", "portcheck: \"65536\" is not a port"},
		{"bad flag", []string{"-nope"}, statusError, "", "portcheck: flag provided but not defined"},
		{"watch ports", []string{"-watch", port}, statusError, "", "portcheck: -watch takes no ports"},
		{"system ports", []string{"-system", port}, statusError, "", "portcheck: -system takes no ports"},
		{"system watch", []string{"-system", "-watch"}, statusError, "", "portcheck: -system takes no ports"},
		{"never", []string{"-watch", "-every", "0"}, statusError, "", "portcheck: -every 0s is not positive"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errs strings.Builder
			assert.Equal(t, c.status, run(t.Context(), c.args, &out, &errs))
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

	var out strings.Builder
	require.Equal(t, statusFound, run(t.Context(), []string{"-json", port}, &out, io.Discard))
	var r struct {
		AtRisk     bool   `json:"at_risk"`
		LocalPorts string `json:"ip_local_port_range"`
		Ports      []verdict
		Findings   []finding
	}
	require.NoError(t, json.Unmarshal([]byte(out.String()), &r))
	require.Len(t, r.Ports, 1)
	assert.True(t, r.Ports[0].AtRisk && r.AtRisk)
	assert.Equal(t, local.String(), r.LocalPorts)
	assert.Empty(t, r.Findings)
}
