//go:build !linux

package main

import (
	"errors"
	"fmt"
)

// sockets fails: this system has no sock_diag.
func sockets() ([]socket, error) {
	return nil, fmt.Errorf("finding sockets: %w; pass the ports to check as arguments", errors.ErrUnsupported)
}

// socketOwners fails as sockets does.
func socketOwners() (map[uint64]process, error) { return nil, errors.ErrUnsupported }
