package main

import (
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	up := l.Addr().String()
	defer l.Close()

	for _, c := range []struct {
		name       string
		args       []string
		status     int
		out, error string
	}{
		{"up", []string{up}, statusUp, up + " is up after ", ""},
		{"up within a timeout", []string{"-timeout", "10s", up}, statusUp, up + " is up after ", ""},
		{"not in time", []string{"-timeout", "1s", "127.0.0.1:9"}, statusTimeout, "", "connection refused"},
		{"no time", []string{"-timeout", "-1s", up}, statusTimeout, "", "i/o timeout"},
		{"help", []string{"-h"}, statusUp, "usage: ", ""},
		{"no address", nil, statusError, "", "waitport: expected one address"},
		{"two addresses", []string{up, up}, statusError, "", "waitport: expected one address"},
		{"no port", []string{"127.0.0.1"}, statusError, "", "missing port"},
		{"port 0", []string{"127.0.0.1:0"}, statusError, "", "no server can have port"},
		{"bad port", []string{"127.0.0.1:65536"}, statusError, "", "invalid port"},
		{"bad timeout", []string{"-timeout", "soon", up}, statusError, "", "waitport: invalid value"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errs strings.Builder
			assert.Equal(t, c.status, run(c.args, &out, &errs))
			assert.Contains(t, out.String(), c.out)
			assert.Contains(t, errs.String(), c.error)
			assert.Equal(t, 1, strings.Count(out.String()+errs.String(), "\n"), "one line")
		})
	}
}
