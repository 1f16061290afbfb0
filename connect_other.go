//go:build !linux

package safedial

import (
	"errors"
	"fmt"
	"net"
)

// install leaves nd as it is, with the caller's own hook: net connects, and the
// result is looked at. Nothing here can have the system keep to LocalPorts.
func (g *guard) install(*net.Dialer) error {
	if err := g.portsReversed(); err != nil || g.ports == (PortRange{}) {
		return err
	}
	return fmt.Errorf("local ports %s: %w", g.ports, errors.ErrUnsupported)
}
