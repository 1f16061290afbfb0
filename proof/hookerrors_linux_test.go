package proof

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// errOfCaller is a caller's own error, which others wrap.
var errOfCaller = errors.New("the caller's own")

// own wraps err in a caller's own error.
func own(err error) error { return fmt.Errorf("%w: %w", errOfCaller, err) }

// A poolError is one that the caller asks for by its type.
type poolError struct{ error }

func (e poolError) Unwrap() error { return e.error }

// TestHookErrorKept has a hook return errors that look like those that the library itself
// makes or retries. Each comes back as it is, and the hook is called as often as by net.
func TestHookErrorKept(t *testing.T) {
	tests := []struct {
		name string
		err  error
	}{
		{"connect: EADDRNOTAVAIL", os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)},
		{"a look-up's", &net.DNSError{Err: "no such host", Name: "caller.test"}},
		{"connect: own and EADDRNOTAVAIL", os.NewSyscallError("connect", errors.Join(errOfCaller, syscall.EADDRNOTAVAIL))},
		{"connect: one link more", os.NewSyscallError("connect", fmt.Errorf("%w", syscall.EADDRNOTAVAIL))},
		{"connect: a type of the caller's", os.NewSyscallError("connect", poolError{syscall.EADDRNOTAVAIL})},
		{"connect: text around EADDRNOTAVAIL", os.NewSyscallError("connect", own(syscall.EADDRNOTAVAIL))},
		{"own around connect: EADDRNOTAVAIL", own(os.NewSyscallError("connect", syscall.EADDRNOTAVAIL))},
		{"another call: EADDRNOTAVAIL", os.NewSyscallError("ioctl", own(syscall.EADDRNOTAVAIL))},
		{"of a dial in the hook", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", own(syscall.EADDRNOTAVAIL))}},
		{"own around connect: EAGAIN", own(os.NewSyscallError("connect", syscall.EAGAIN))},
		{"own around bind: EADDRINUSE", own(os.NewSyscallError("bind", syscall.EADDRINUSE))},
		{"ErrSelfConnect", safedial.ErrSelfConnect},
		{"own around ErrSelfConnect", own(safedial.ErrSelfConnect)},
		{"errors.ErrUnsupported", errors.ErrUnsupported},
	}
	skipPortable(t, "a retry follows net's own")
	isolated(t, func(t *testing.T) {
		nstest.Hosts(t, nstest.DualLocalhost)
		for _, test := range tests {
			for _, network := range []string{"tcp", "udp"} {
				for _, address := range []string{"127.0.0.1:9000", "localhost:9000"} {
					for _, local := range []net.Addr{nil, tcp("", 0), udp("", 0)} {
						if local != nil && local.Network() != network {
							continue
						}
						what := fmt.Sprintf("%s on %s to %s from %v", test.name, network, address, local)
						fail := failingHook{err: test.err, local: local, network: network, address: address}
						calls, want := fail.dial(func(nd *net.Dialer) dialFunc { return nd.Dial })
						require.True(t, identical(want, test.err), what)
						for kind := range dialsOf(new(safedial.Dialer)) {
							n, got := fail.dial(func(nd *net.Dialer) dialFunc {
								d := safedial.From(nd)
								d.MaxRetries, d.OnRetry = 5, notRetried(t)
								return dialsOf(d)[kind]
							})
							assert.True(t, identical(got, want), "%s, %s: %T %q, not the hook's error", kind, what, got, got)
							assert.Equal(t, calls, n, "%s, %s: calls of the hook", kind, what)
						}
					}
				}
			}
		}
	})
}

// identical reports whether a and b are the same error, not only alike.
func identical(a, b any) bool { return a == b }

// A failingHook is a dial whose hook fails.
type failingHook struct {
	err              error
	local            net.Addr
	network, address string
}

// dial makes the dial, and returns how often the hook was called, and what the dial's error
// wraps.
func (f failingHook) dial(build func(*net.Dialer) dialFunc) (int64, error) {
	var calls atomic.Int64
	nd := &net.Dialer{LocalAddr: f.local, Control: func(string, string, syscall.RawConn) error {
		calls.Add(1)
		return f.err
	}}
	_, err := build(nd)(f.network, f.address)
	op, ok := errors.AsType[*net.OpError](err)
	if !ok {
		return calls.Load(), err
	}
	return calls.Load(), op.Err
}
