package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial/internal/nstest"
)

// TestMain is the program, too, which the tests run again in a namespace.
func TestMain(m *testing.M) {
	if inNamespace() {
		main()
	}
	os.Exit(m.Run())
}

const inNamespaceOutput = `
In a network namespace of its own:
The kernel chooses local ports from 40000-40009.
Nothing listens on port 40004 and port 40006 of 127.0.0.1.

                                  net.Dialer               safedial
port                              40004                    40006
dials                             200                      200
sockets connected to themselves   1                        0
the last dial returns             connection refused       connection refused
then a server on the port         address already in use   starts

net.Dialer has closed the socket that was connected to itself, and dialed again.
Its port stays in TIME_WAIT: for a minute, no server can start there.
`

// TestInNamespace prints the same each time.
func TestInNamespace(t *testing.T) {
	nstest.RequirePortRange(t, "no socket is connected to itself")
	for range 3 {
		var out, errs strings.Builder
		status := run(nil, &out, &errs)
		if strings.HasPrefix(out.String(), "Without a network namespace") {
			nstest.Refused(t, out.String())
		}
		require.Equal(t, statusKept, status, errs.String())
		assert.Equal(t, inNamespaceOutput[1:], out.String())
		assert.Empty(t, errs.String())
	}
}

// TestInLargerRange dials until there is a self-connection.
func TestInLargerRange(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.RequirePortRange(t, "no socket is connected to itself")
		nstest.SetLocalPorts(t, 40000, 40999)
		var out, errs strings.Builder
		require.Equal(t, statusKept, show(&out, &errs), errs.String())
		assert.Contains(t, out.String(), "local ports from 40000-40999")
		assert.Regexp(t, `sockets connected to themselves +1 +0\n`, out.String())
		assert.Regexp(t, `then a server on the port +address already in use +starts\n`, out.String())
	})
}
