package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

// TestSystem asks kernels that have less and less of what safedial uses.
func TestSystem(t *testing.T) {
	const (
		tcpRange, udpRange = "IP_LOCAL_PORT_RANGE for TCP", "IP_LOCAL_PORT_RANGE for UDP"
		lateBind, undo     = "IP_BIND_ADDRESS_NO_PORT", "undo by connect(2) to AF_UNSPEC"
	)
	for name, c := range map[string]struct {
		prepare func(t *testing.T)
		why     map[string]string // why it lacks something; all others it has
		kept    string            // for TCP and UDP
	}{
		"AsItIs": {func(*testing.T) {}, nil, kept[0]},
		"WithoutOptions": {
			func(t *testing.T) { nstest.WithoutOptions(t, unix.IP_LOCAL_PORT_RANGE, unix.IP_BIND_ADDRESS_NO_PORT) },
			map[string]string{
				tcpRange: "setsockopt: protocol not available",
				udpRange: "setsockopt: protocol not available",
				lateBind: "setsockopt: protocol not available",
			},
			kept[1],
		},
		"Ignored": {
			func(t *testing.T) { nstest.FailSyscall(t, unix.SYS_SETSOCKOPT, 0) },
			map[string]string{
				tcpRange: "taken and ignored: the kernel chose port",
				udpRange: "taken and ignored: the kernel chose port",
				lateBind: "taken and ignored: bind chose port",
			},
			kept[1],
		},
		"NoUndo": {
			func(t *testing.T) { nstest.FailSyscall(t, unix.SYS_CONNECT, unix.EPERM) },
			map[string]string{undo: "connect: operation not permitted"},
			kept[0],
		},
	} {
		t.Run(name, func(t *testing.T) {
			nstest.Run(t, func(t *testing.T) {
				nstest.RequirePortRange(t, "LocalPorts hold")
				c.prepare(t)
				r, text := askAsUser(t)
				for _, f := range r.Features {
					if strings.HasSuffix(f.Name, "MPTCP") {
						continue // not every kernel has it
					}
					assert.Equal(t, c.why[f.Name] == "", f.Has, f)
					assert.Contains(t, f.Why, c.why[f.Name])
					assert.Contains(t, text, f.Name)
				}
				assert.Len(t, r.Features, 5)
				require.Len(t, r.Promises, 3)
				for _, p := range r.Promises[:2] {
					assert.Equal(t, c.kept, p.Kept, p.Dials)
				}
			})
		})
	}
}

// TestSystemWithOnePort cannot tell whether the kernel honors the range.
func TestSystemWithOnePort(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, 40000, 40000)
		_, text := askAsUser(t)
		assert.Contains(t, text, "no: not known, because 40000 is all of the local port range")
	})
}

// askAsUser runs portcheck, once for each form of its output.
func askAsUser(t *testing.T) (r systemReport, text string) {
	t.Helper()
	var asText, asJSON, errs strings.Builder
	require.Equal(t, statusNone, run(t.Context(), []string{"-system"}, &asText, &errs))
	require.Equal(t, statusNone, run(t.Context(), []string{"-system", "-json"}, &asJSON, &errs))
	require.Empty(t, errs.String())
	require.NoError(t, json.Unmarshal([]byte(asJSON.String()), &r))
	return r, asText.String()
}

// TestPromises looks up in README what the report speaks of.
func TestPromises(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	for _, needs := range []string{"port ranges²", "other Unix and Windows¹", "other systems¹"} {
		assert.Contains(t, string(readme), needs+" |")
	}
}
