package safedial

import (
	"testing"

	"github.com/safedial/safedial/internal/nstest"
)

// setLocalPorts sets the namespace's local port range, and has the library read it.
func setLocalPorts(t *testing.T, r PortRange) {
	t.Helper()
	nstest.SetLocalPorts(t, r.Low, r.High)
	localPorts.forget()
}
