package safedial

import (
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// slowPort reads a port digit by digit.
func slowPort(text string) (uint16, bool) {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	n, ok := new(big.Int).SetString(text, 10)
	if !ok || n.Cmp(big.NewInt(65535)) > 0 {
		return 0, false
	}
	return uint16(n.Uint64()), true
}

func FuzzLocalPortRange(f *testing.F) {
	for _, seed := range []string{"32768\t60999\n", "1 65535", "", "1", "2 1", "1 65536", "a b", "+1 2", "1_0 20", "0x1 2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var want PortRange
		fields := strings.Fields(text)
		ok := len(fields) == 2
		if ok {
			low, lowOK := slowPort(fields[0])
			high, highOK := slowPort(fields[1])
			if ok = lowOK && highOK && low <= high; ok {
				want = PortRange{low, high}
			}
		}
		got, err := parseLocalPortRange(text)
		assert.Equal(t, ok, err == nil, "%q: %v", text, err)
		assert.Equal(t, want, got, "%q", text)
	})
}

func FuzzReservedPorts(f *testing.F) {
	for _, seed := range []string{"", "\n", "8080\n", "1-2,4,6-9\n", "1,", "-", "2-1", "1-2-3", " 1", "1 ,2", "65536", "0-65535"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		want, ok := slowReservedPorts(text)
		got, err := parseReservedPorts(text)
		assert.Equal(t, ok, err == nil, "%q: %v", text, err)
		if ok {
			assert.Equal(t, want, got, "%q", text)
		} else {
			assert.Nil(t, got, "%q", text)
		}
	})
}

func slowReservedPorts(text string) ([]PortRange, bool) {
	list := []PortRange{}
	if strings.TrimSpace(text) == "" {
		return list, true
	}
	for _, item := range strings.Split(strings.TrimSpace(text), ",") {
		ends := strings.Split(item, "-")
		if len(ends) > 2 {
			return nil, false
		}
		low, lowOK := slowPort(ends[0])
		high, highOK := slowPort(ends[len(ends)-1])
		if !lowOK || !highOK || low > high {
			return nil, false
		}
		list = append(list, PortRange{low, high})
	}
	return list, true
}

// FuzzSplitAround holds the ranges for any port, range and LocalPorts to their
// promise: none holds the port, all hold only what is allowed, and together they
// hold all of it.
func FuzzSplitAround(f *testing.F) {
	f.Add(uint16(40000), uint16(32768), uint16(60999), uint16(0), uint16(0))
	f.Add(uint16(32768), uint16(32768), uint16(60999), uint16(0), uint16(40000))
	f.Add(uint16(60999), uint16(32768), uint16(60999), uint16(50000), uint16(0))
	f.Add(uint16(1), uint16(1), uint16(1), uint16(1), uint16(1))
	f.Add(uint16(65535), uint16(65535), uint16(65535), uint16(1), uint16(65535))
	f.Add(uint16(0), uint16(1), uint16(2), uint16(3), uint16(4))
	f.Fuzz(func(t *testing.T, port, systemLow, systemHigh, low, high uint16) {
		if systemLow == 0 || systemHigh < systemLow {
			return // no kernel takes it
		}
		system := PortRange{systemLow, systemHigh}
		allowed := PortRange{low, high}
		if allowed == (PortRange{}) {
			allowed = everyPort
		}
		state := &portState{local: system, known: true}
		found := state.splitAround(nil, allowed, []uint16{port})
		count := 0
		for _, window := range found {
			effective := clamp(window, system)
			require.Positive(t, effective.Len())
			require.False(t, effective.Contains(port), "%v holds %d", effective, port)
			require.Equal(t, effective, effective.intersect(system).intersect(allowed), "outside of %v or %v", system, allowed)
			count += effective.Len()
		}
		if len(found) == 2 {
			require.Zero(t, found[0].intersect(found[1]).Len())
		}
		want := 0
		for p := int(system.Low); p <= int(system.High); p++ {
			if p != int(port) && p >= int(allowed.Low) && p <= int(allowed.High) {
				want++
			}
		}
		assert.Equal(t, want, count, "ports of %v allowed by %v beside %d", system, allowed, port)
	})
}
