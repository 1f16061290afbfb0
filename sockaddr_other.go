//go:build !unix

package safedial

import (
	"errors"
	"net/netip"
	"syscall"
)

// socketAddrs is for Unix; elsewhere the addresses that a connection reports must do.
func socketAddrs(syscall.RawConn) (local, peer netip.AddrPort, err error) {
	return netip.AddrPort{}, netip.AddrPort{}, errors.ErrUnsupported
}
