package safedial

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestPortRange(t *testing.T) {
	for _, c := range []struct {
		r        PortRange
		text     string
		length   int
		in, out  []uint16
		narrowed PortRange // by 100-200
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
		assert.Equal(t, c.narrowed, c.r.intersect(PortRange{100, 200}), "%v", c.r)
		assert.Equal(t, c.narrowed, PortRange{100, 200}.intersect(c.r), "%v", c.r)
	}
}
