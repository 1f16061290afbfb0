//go:build darwin || freebsd

package safedial

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestLocalPortRangeHolds: the ports that the kernel picks are in the range.
func TestLocalPortRangeHolds(t *testing.T) {
	r, err := LocalPortRange()
	require.NoError(t, err)
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		port := addrPort(l.Addr()).Port()
		assert.True(t, r.Contains(port), "%d is outside of %s", port, r)
		ephemeral, err := IsEphemeral(port)
		assert.NoError(t, err)
		assert.True(t, ephemeral)
	}
	reserved, err := ReservedPorts()
	assert.NoError(t, err)
	assert.Empty(t, reserved)
}

func TestPortSysctl(t *testing.T) {
	_, err := portSysctl("net.inet.ip.portrange.none")
	assert.ErrorIs(t, err, unix.ENOENT)
}
