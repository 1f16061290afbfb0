//go:build !linux && !darwin && !freebsd

package safedial

import (
	"errors"
	"fmt"
)

// defaultPortRange stands in for a local port range that cannot be read: any port
// may be in it.
var defaultPortRange = everyPort

// LocalPortRange is for Linux, macOS and FreeBSD; here its error matches [errors.ErrUnsupported].
func LocalPortRange() (PortRange, error) {
	return PortRange{}, fmt.Errorf("safedial: local port range: %w", errors.ErrUnsupported)
}

// ReservedPorts is for Linux, macOS and FreeBSD; here its error matches [errors.ErrUnsupported].
func ReservedPorts() ([]PortRange, error) {
	return nil, fmt.Errorf("safedial: reserved ports: %w", errors.ErrUnsupported)
}
