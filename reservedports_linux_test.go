package safedial_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// TestReservedPortsAreComplete reserves long lists of ports. The kernel answers only the
// first read(2) of the file, so a read with a small buffer loses the rest of the list.
func TestReservedPortsAreComplete(t *testing.T) {
	tests := []struct {
		name                     string
		first, last, width, step int // each range has width ports, and the next begins step ports later
	}{
		{"100 single ports", 40000, 40199, 1, 2},
		{"1,000 single ports", 40000, 41999, 1, 2},
		{"every second port", 1, 65535, 1, 2},
		{"two of three ports, the longest list in bytes", 1, 65535, 2, 3},
		{"all ports", 1, 65535, 65535, 65535},
	}
	nstest.Run(t, func(t *testing.T) {
		nstest.WriteLocalPorts(t, 1024, 65535)
		for _, test := range tests {
			var want []safedial.PortRange
			for port := test.first; port <= test.last; port += test.step {
				want = append(want, safedial.PortRange{Low: uint16(port), High: uint16(min(port+test.width-1, test.last))})
			}
			nstest.Sysctl(t, nstest.ReservedPortsFile, join(want))
			require.True(t, readOnce(t, nstest.ReservedPortsFile) == join(want), "%s: the kernel has another list", test.name)

			got, err := safedial.ReservedPorts()
			if !assert.True(t, err == nil, "%s: the list is cut", test.name) { // the error has all of it
				continue
			}
			if assert.Equal(t, len(want), len(got), "%s: ranges", test.name) {
				assert.True(t, slices.Equal(want, got), "%s: other ranges than the kernel's", test.name)
			}
			assertEphemeral(t, test.name, want)
		}
	})
}

// readOnce returns what one large read(2) of the file returns.
func readOnce(t *testing.T, name string) string {
	t.Helper()
	file, err := os.Open(name)
	require.NoError(t, err)
	defer file.Close()
	text := make([]byte, 1<<20)
	n, err := file.Read(text)
	require.NoError(t, err)
	return string(text[:n])
}

// join returns the ranges as the sysctl takes them.
func join(ranges []safedial.PortRange) string {
	var list []string
	for _, r := range ranges {
		list = append(list, r.String())
	}
	return strings.Join(list, ",") + "\n"
}

// assertEphemeral asks about the ports at both ends of the reserved ranges, and about a
// sample of all ports: each question reads the whole list.
func assertEphemeral(t *testing.T, name string, reserved []safedial.PortRange) {
	t.Helper()
	last := reserved[len(reserved)-1].High
	sample := []uint16{1023, 1024, reserved[0].Low, last - 2, last - 1, last}
	for port := 1; port <= 65535; port += 1201 {
		sample = append(sample, uint16(port))
	}
	var wrong []string
	for _, port := range sample {
		inList := slices.ContainsFunc(reserved, func(r safedial.PortRange) bool { return r.Contains(port) })
		got, err := safedial.IsEphemeral(port)
		require.NoError(t, err, name)
		if got != (port >= 1024 && !inList) {
			wrong = append(wrong, fmt.Sprintf("%d: %t", port, got))
		}
	}
	assert.Empty(t, wrong, "%s: IsEphemeral", name)
}
