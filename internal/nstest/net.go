package nstest

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// OpError returns the *net.OpError in err.
func OpError(t *testing.T, err error) *net.OpError {
	t.Helper()
	op, ok := errors.AsType[*net.OpError](err)
	require.True(t, ok, "no *net.OpError: %v", err)
	return op
}

// NetConn returns conn as a net.Conn, which is nil with an error.
func NetConn[C net.Conn](conn C, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// AddrPort returns the address of a TCP or UDP socket.
func AddrPort(addr net.Addr) netip.AddrPort {
	return addr.(interface{ AddrPort() netip.AddrPort }).AddrPort()
}
