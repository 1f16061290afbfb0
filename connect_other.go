//go:build !linux

package safedial

import "net"

// install leaves nd as it is, with the caller's own hook: net connects, and the
// result is looked at.
func (g *guard) install(*net.Dialer) {}
