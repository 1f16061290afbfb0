//go:build !linux && !darwin && !freebsd

package safedial

import (
	"errors"
	"fmt"
)

// defaultPortRange stands in for a local port range that cannot be read.
var defaultPortRange = everyPort

func localPortRange() (PortRange, error) {
	return PortRange{}, fmt.Errorf("safedial: local port range: %w", errors.ErrUnsupported)
}

func reservedPorts() ([]PortRange, error) {
	return nil, fmt.Errorf("safedial: reserved ports: %w", errors.ErrUnsupported)
}
