package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(&out))
	text := out.String()
	for _, want := range []string{
		"200 OK: hello over HTTP/1.1",
		"200 OK: hello over HTTP/2.0",
		`TLS with "h2", error <nil>`,
		"connection of type *net.TCPConn, to itself: false",
		"connection of type *tls.Conn, to itself: false",
	} {
		assert.Contains(t, text, want)
	}
}
