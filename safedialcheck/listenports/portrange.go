package listenports

import (
	"fmt"
	"strconv"
	"strings"
)

// A PortRange is a range of ports, both ends included. It is a [flag.Value].
type PortRange struct{ Low, High uint16 }

// String returns the range as Set takes it: "32768-60999".
func (r *PortRange) String() string { return fmt.Sprintf("%d-%d", r.Low, r.High) }

// Set sets the range to that of text.
func (r *PortRange) Set(text string) error {
	first, last, _ := strings.Cut(text, "-")
	low, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return fmt.Errorf("%q is not a port range such as 32768-60999", text)
	}
	high, err := strconv.ParseUint(last, 10, 16)
	if err != nil || high < low {
		return fmt.Errorf("%q is not a port range such as 32768-60999", text)
	}
	r.Low, r.High = uint16(low), uint16(high)
	return nil
}

// contains reports whether port lies in the range.
func (r *PortRange) contains(port int64) bool {
	return int64(r.Low) <= port && port <= int64(r.High)
}
