package safedial

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSystemPorts(t *testing.T) {
	known := &systemPorts{
		local:    PortRange{40001, 40010},
		known:    true,
		reserved: []PortRange{{40002, 40003}, {40010, 40020}},
	}
	assert.True(t, known.mayChoose(40001))
	assert.False(t, known.mayChoose(40000))
	assert.True(t, known.otherParity(40004))
	assert.False(t, known.otherParity(40005))
	assert.False(t, known.otherParity(40012), "outside of the range")
	assert.Equal(t, 7, usable(known.local, known.reserved))
	assert.Equal(t, 0, usable(PortRange{40010, 40010}, known.reserved))
	assert.Equal(t, 3, usable(PortRange{40001, 40005}, known.reserved))

	unknown := &systemPorts{local: defaultPortRange}
	assert.True(t, unknown.mayChoose(32768))
	assert.False(t, unknown.otherParity(40001), "no parity")
}

func TestLimits(t *testing.T) {
	many := make([]PortRange, 0, 14_116)
	for port := uint16(60_999); len(many) < cap(many); port -= 2 {
		many = append(many, PortRange{port, port})
	}
	tests := []struct {
		name    string
		d       Dialer
		text    string
		in, out []uint16
	}{
		{name: "none", in: []uint16{1, 65535}},
		{name: "port 0", d: Dialer{AvoidPorts: Ports(0, 0)}, in: []uint16{1, 65535}},
		{
			name: "LocalPorts", d: Dialer{LocalPorts: PortRange{0, 40}},
			text: "local ports 0-40", in: []uint16{1, 40}, out: []uint16{41},
		},
		{
			name: "AvoidPorts", d: Dialer{AvoidPorts: []PortRange{{60, 70}, {40, 40}, {50, 59}, {40, 41}, {}}},
			text: "avoid ports 40-41, 50-70", in: []uint16{39, 42, 49, 71}, out: []uint16{40, 41, 50, 59, 60, 70},
		},
		{
			name: "both", d: Dialer{LocalPorts: PortRange{40, 50}, AvoidPorts: Ports(45, 65535)},
			text: "local ports 40-50, avoid ports 45, 65535", in: []uint16{44}, out: []uint16{39, 45, 51},
		},
		{
			name: "many", d: Dialer{AvoidPorts: many},
			text: "avoid ports 32769, 32771, 32773, 32775, and 14112 more",
			in:   []uint16{32768, 60998, 61000}, out: []uint16{32769, 60999},
		},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			before := slices.Clone(c.d.AvoidPorts)
			l, err := c.d.portLimits()
			if !hookConnects && c.text != "" {
				require.EqualError(t, err, c.text+": unsupported operation")
			} else {
				require.NoError(t, err)
			}
			assert.Equal(t, c.text != "", l.limited())
			assert.Equal(t, c.text, l.String())
			assert.Equal(t, before, c.d.AvoidPorts, "the caller's slice")
			for _, port := range c.in {
				assert.True(t, l.allows(port), "%d", port)
			}
			for _, port := range c.out {
				assert.False(t, l.allows(port), "%d", port)
			}
		})
	}
}

func TestLimitsReversed(t *testing.T) {
	for want, d := range map[string]Dialer{
		"local ports 40005-40004: the first is above the last": {LocalPorts: PortRange{40005, 40004}},
		"avoid ports 40005-40004: the first is above the last": {AvoidPorts: []PortRange{{1, 2}, {40005, 40004}}},
		"avoid ports 40005-0: the first is above the last":     {AvoidPorts: []PortRange{{40005, 0}}},
	} {
		for _, network := range []string{"tcp", "udp"} {
			_, err := d.Dial(network, "127.0.0.1:9")
			assert.EqualError(t, err, "dial "+network+": "+want)
		}
	}
}

// TestCrowded: a destination is crowded for ten seconds; then one dial asks again.
func TestCrowded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dest := netip.MustParseAddrPort("192.0.2.1:80")
		other := dest
		for n := uint16(1); crowdedEntry(other) != crowdedEntry(dest) || other == dest; n++ {
			other = netip.AddrPortFrom(dest.Addr(), n)
		}
		assert.False(t, isCrowded(dest))
		setCrowded(dest, true)
		assert.True(t, isCrowded(dest))
		assert.False(t, isCrowded(other), "of the same entry")
		setCrowded(other, false)
		assert.True(t, isCrowded(dest), "cleared by another")
		setCrowded(dest, false)
		assert.False(t, isCrowded(dest))

		setCrowded(dest, true)
		time.Sleep(crowdedFor - time.Nanosecond)
		assert.True(t, isCrowded(dest))
		time.Sleep(time.Nanosecond)
		assert.False(t, isCrowded(dest), "the one that asks again")
		assert.True(t, isCrowded(dest), "the others")
	})
}
