//go:build !linux || safedial_portable

package safedial

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial/internal/nstest"
)

// TestHookResetsUntilChecked: a socket that may connect to itself closes with a reset
// until it has been checked, and then as the caller's hook has said.
func TestHookResetsUntilChecked(t *testing.T) {
	if !netTakesHooks {
		t.Skip("there is no hook")
	}
	l := nstest.Serve(t, "tcp", "127.0.0.1:0") // a port in the local port range
	for _, want := range []int64{lingerOff, 5, lingerReset} {
		d := Dialer{Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { setLinger(fd, want) })
		}}
		if want == lingerOff {
			d.Control = nil
		}
		var nd net.Dialer
		g := dial{target: newTarget("tcp", l.Addr().String(), nil), caller: d.callersControl()}
		restore := g.setHook(&nd, 0, 0)
		conn, err := nd.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		assert.EqualValues(t, lingerReset, lingerOf(t, conn), "before the check, of a hook that has set %d", want)
		restore(conn)
		assert.Equal(t, want, lingerOf(t, conn), "after the check")
		nstest.Reset(conn)
	}
}

// TestHookReturnsCallersError: net gets the error of the caller's hook, and no socket
// is connected.
func TestHookReturnsCallersError(t *testing.T) {
	refusal := errors.New("refused by the hook")
	d := Dialer{Control: func(string, string, syscall.RawConn) error { return refusal }}
	_, err := d.Dial("tcp", "127.0.0.1:9")
	if !netTakesHooks {
		_, refusal = (&net.Dialer{Control: d.Control}).Dial("tcp", "127.0.0.1:9")
		assert.EqualError(t, err, refusal.Error())
		return
	}
	assert.ErrorIs(t, err, refusal)
}

// TestLimitsAreRefused: no socket can be told which ports to choose from.
func TestLimitsAreRefused(t *testing.T) {
	for _, d := range []Dialer{{LocalPorts: PortRange{40000, 40010}}, {AvoidPorts: Ports(40000)}} {
		for _, network := range []string{"tcp", "udp"} {
			_, err := d.Dial(network, "127.0.0.1:9")
			assert.ErrorIs(t, err, errors.ErrUnsupported)
			_, err = d.NetDialer().Dial(network, "127.0.0.1:9")
			assert.ErrorIs(t, err, errors.ErrUnsupported)
		}
	}
}

// TestNetDialerIsPlain: nothing can check a NetDialer's connections, so it has no hook.
func TestNetDialerIsPlain(t *testing.T) {
	nd := new(Dialer).NetDialer()
	assert.Nil(t, nd.Control)
	assert.Nil(t, nd.ControlContext)
}

func lingerOf(t *testing.T, conn net.Conn) (seconds int64) {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		seconds = setLinger(fd, lingerOff) // which tells what it was
		setLinger(fd, seconds)
	}))
	return seconds
}
