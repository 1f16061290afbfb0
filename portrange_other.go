//go:build !linux && !darwin && !freebsd

package safedial

import (
	"errors"
	"fmt"
)

// LocalPortRange is for Linux, macOS and FreeBSD; here its error matches [errors.ErrUnsupported].
func LocalPortRange() (PortRange, error) {
	return PortRange{}, fmt.Errorf("safedial: local port range: %w", errors.ErrUnsupported)
}

// ReservedPorts is for Linux, macOS and FreeBSD; here its error matches [errors.ErrUnsupported].
func ReservedPorts() ([]PortRange, error) {
	return nil, fmt.Errorf("safedial: reserved ports: %w", errors.ErrUnsupported)
}
