//go:build !unix

package safedial

import (
	"errors"
	"net/netip"
	"syscall"
)

// socketEnds is for Unix; elsewhere a connection's addresses have to do.
func socketEnds(syscall.RawConn) (local, peer netip.AddrPort, err error) {
	return netip.AddrPort{}, netip.AddrPort{}, errors.ErrUnsupported
}
