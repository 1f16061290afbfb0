package safedial

import (
	"errors"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPortRange(t *testing.T) {
	for _, c := range []struct {
		r       PortRange
		text    string
		length  int
		in, out []uint16
		part    PortRange // in 100-200
	}{
		{PortRange{}, "", 0, nil, []uint16{0, 1, 65535}, PortRange{}},
		{PortRange{150, 150}, "150", 1, []uint16{150}, []uint16{0, 149, 151}, PortRange{150, 150}},
		{PortRange{50, 150}, "50-150", 101, []uint16{50, 99, 150}, []uint16{49, 151}, PortRange{100, 150}},
		{PortRange{200, 300}, "200-300", 101, []uint16{200, 300}, []uint16{199, 301}, PortRange{200, 200}},
		{PortRange{201, 300}, "201-300", 100, []uint16{201}, []uint16{200}, PortRange{}},
		{PortRange{0, 100}, "0-100", 100, []uint16{1, 100}, []uint16{0, 101}, PortRange{100, 100}},
		{PortRange{1, 65535}, "1-65535", 65535, []uint16{1, 65535}, []uint16{0}, PortRange{100, 200}},
		{PortRange{200, 100}, "", 0, nil, []uint16{100, 150, 200}, PortRange{}},
	} {
		assert.Equal(t, c.text, c.r.String())
		assert.Equal(t, c.length, c.r.Len(), "%#v", c.r)
		for _, port := range c.in {
			assert.True(t, c.r.Contains(port), "%v has %d", c.r, port)
		}
		for _, port := range c.out {
			assert.False(t, c.r.Contains(port), "%v has %d", c.r, port)
		}
		assert.Equal(t, c.part, c.r.intersect(PortRange{100, 200}), "%v", c.r)
		assert.Equal(t, c.part, PortRange{100, 200}.intersect(c.r), "%v", c.r)
	}
}

// TestLocalPortRangeHolds: the ports that the system picks are in the range.
func TestLocalPortRangeHolds(t *testing.T) {
	r, err := LocalPortRange()
	if errors.Is(err, errors.ErrUnsupported) {
		assert.Zero(t, r)
		reserved, err := ReservedPorts()
		assert.Nil(t, reserved)
		assert.ErrorIs(t, err, errors.ErrUnsupported)
		ephemeral, err := IsEphemeral(40000)
		assert.False(t, ephemeral)
		assert.ErrorIs(t, err, errors.ErrUnsupported)
		return
	}
	require.NoError(t, err)
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		port := addrPort(l.Addr()).Port()
		assert.True(t, r.Contains(port), "the system picked %d, outside of %s", port, r)
		ephemeral, err := IsEphemeral(port)
		assert.NoError(t, err)
		assert.True(t, ephemeral, "the system picked %d", port)
	}
}

func TestPorts(t *testing.T) {
	assert.Empty(t, Ports())
	assert.Equal(t, []PortRange{{40002, 40002}, {40000, 40000}, {0, 0}}, Ports(40002, 40000, 0))
}
