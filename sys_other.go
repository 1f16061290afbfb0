//go:build !unix && !windows

package safedial

import (
	"errors"
	"net/netip"
	"syscall"
)

// socketAddrs is for Unix; elsewhere the addresses that a connection reports must do.
func socketAddrs(syscall.RawConn) (local, peer netip.AddrPort, err error) {
	return local, peer, errors.ErrUnsupported
}

// setLinger does nothing: these systems have no SO_LINGER.
func setLinger(uintptr, int64) (was int64) { return lingerOff }
