//go:build !linux

package main

// sockets fails: this system has no sock_diag.
func sockets() ([]socket, error) { return nil, errNeedsLinux }

// bindTCP fails as sockets does.
func bindTCP(uint16) error { return errNeedsLinux }

// socketOwners fails as sockets does.
func socketOwners() (map[uint64][]process, error) { return nil, errNeedsLinux }
