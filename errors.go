package safedial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
)

// dialError returns an error of net.Dialer's form. A source of nil is none.
func dialError(network string, source, addr net.Addr, err error) *net.OpError {
	return &net.OpError{Op: "dial", Net: network, Source: source, Addr: addr, Err: err}
}

// outermost returns err itself as a T. Unlike errors.As, it does not look into err, which
// may be the error of a caller's hook, and may hold the error of another dial.
func outermost[T error](err error) (T, bool) {
	t, ok := any(err).(T)
	return t, ok
}

// withCause returns err, of a dial, with another cause.
func withCause(err, cause error) error {
	if op, ok := outermost[*net.OpError](err); ok {
		return dialError(op.Net, op.Source, op.Addr, cause)
	}
	return cause
}

// isLookupError reports whether err is that net could not resolve the address.
func isLookupError(err error) bool {
	op, ok := outermost[*net.OpError](err)
	if !ok || op.Addr != nil {
		return false
	}
	_, ok = outermost[*net.DNSError](op.Err)
	return ok
}

// A hookError is an error of safedial's hook that net must not act on. It has the text
// of the error that it holds.
//
// Inside of an *os.SyscallError it holds EADDRNOTAVAIL. net would recognize that, and
// repeat the dial on two more sockets, each with the hook's own retries.
//
// By itself it says that the socket is of no more use: the hook could not undo a
// connection, or the caller's hook has failed afterwards. Only a dial with another socket
// can go on.
type hookError struct {
	err     error
	retries int    // those that the hook has made
	met     uint16 // the port from which the socket was connected to itself; 0: none
}

func (e *hookError) Error() string { return e.err.Error() }

func (e *hookError) Unwrap() error { return e.err }

// hideFromNet returns err, from connect(2) or bind(2) in the hook, in a form in which
// net does not recognize EADDRNOTAVAIL.
func hideFromNet(err error) error {
	call, ok := outermost[*os.SyscallError](err)
	if !ok || !errors.Is(call.Err, errAddrNotAvailable) {
		return err
	}
	return &os.SyscallError{Syscall: call.Syscall, Err: &hookError{err: call.Err}}
}

// original reports whether the error of a dial has a hookError, and returns it without. It
// does not change err, because a trace may have it too.
func original(err error) (hidden bool, _ error) {
	if h, ok := outermost[*hookError](err); ok {
		return true, h.err
	}
	if call, ok := outermost[*os.SyscallError](err); ok && call != nil {
		if h, ok := outermost[*hookError](call.Err); ok {
			return true, os.NewSyscallError(call.Syscall, h.err)
		}
	}
	return false, err
}

// isSystemCall reports whether err, as a hook or net returns it, is that the system call
// failed with errno.
func isSystemCall(err error, name string, errno error) bool {
	call, ok := outermost[*os.SyscallError](err)
	return ok && call != nil && call.Syscall == name && errors.Is(call.Err, errno)
}

// isNoPort reports whether err is that the system found no local port: EADDRNOTAVAIL of
// connect(2), for UDP on Linux EAGAIN, or EADDRINUSE of bind(2) if port 0 was asked for.
// EADDRNOTAVAIL of bind(2) is another error: the address is not the host's.
func isNoPort(err error) bool {
	return isSystemCall(err, "connect", errAddrNotAvailable) || isSystemCall(err, "connectex", errAddrNotAvailable) ||
		isSystemCall(err, "connect", errAgain) || isSystemCall(err, "bind", errAddrInUse)
}

// endedError returns net's error for a dial whose context has ended. net makes no socket
// for it.
func endedError(ctx context.Context) error {
	_, err := new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:0")
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

func errMismatchedLocalAddr(local net.Addr) error {
	return &net.AddrError{Err: "mismatched local address type", Addr: local.String()}
}

const noSuitableAddress = "no suitable address found"

func errNoSuitableAddress(local net.Addr) error {
	return &net.AddrError{Err: noSuitableAddress, Addr: local.String()}
}

func errReversed(what string, r PortRange) error {
	return fmt.Errorf("%s %d-%d: the first is above the last", what, r.Low, r.High)
}

// errLimitsUnsupported is for a system that cannot be told which ports to choose from.
// The cause may be nil.
func errLimitsUnsupported(limits string, cause error) error {
	if cause == nil {
		return fmt.Errorf("%s: %w", limits, errors.ErrUnsupported)
	}
	return fmt.Errorf("%s: %w: %w", limits, errors.ErrUnsupported, cause)
}

// errLimitsIgnored is for a system that was told which ports to choose from, and chose
// another.
func errLimitsIgnored(limits string, port uint16) error {
	return fmt.Errorf("%s: the system chose port %d: %w", limits, port, errors.ErrUnsupported)
}

// errRangeUnknown is the cause if nothing tells which ports the system may choose.
var errRangeUnknown = errors.New("the local port range cannot be read")
