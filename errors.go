package safedial

import (
	"errors"
	"fmt"
	"net"
	"os"
)

// dialError returns an error of net.Dialer's form. A source of nil is none.
func dialError(network string, source, addr net.Addr, err error) error {
	return &net.OpError{Op: "dial", Net: network, Source: source, Addr: addr, Err: err}
}

// isSyscallError reports whether err is that the system call failed with errno.
func isSyscallError(err error, syscall string, errno error) bool {
	call, ok := errors.AsType[*os.SyscallError](err)
	return ok && call.Syscall == syscall && errors.Is(call.Err, errno)
}

// isConnectAddrNotAvail reports whether connect found no local port, or no local
// address. bind(2) has the same errno for an address that is not the host's,
// which no second try can cure.
func isConnectAddrNotAvail(err error) bool {
	return isSyscallError(err, "connect", errAddrNotAvailable) || isSyscallError(err, "connectex", errAddrNotAvailable)
}

// isBindAddrInUse reports whether bind(2) failed because the port is taken, or,
// for port 0, because none is left.
func isBindAddrInUse(err error) bool { return isSyscallError(err, "bind", errAddrInUse) }

// isConnectAgain reports whether connect found no local port for a UDP socket:
// Linux has EAGAIN for it.
func isConnectAgain(err error) bool { return isSyscallError(err, "connect", errAgain) }

// hideFromNet returns err, from a hook, in a form with the same text in which net
// does not recognize EADDRNOTAVAIL. net would repeat the dial on two more
// sockets, and so multiply the work of a host that is out of ports.
func hideFromNet(err error) error {
	call, ok := errors.AsType[*os.SyscallError](err)
	if !ok || !errors.Is(call.Err, errAddrNotAvailable) {
		return err
	}
	return &os.SyscallError{Syscall: call.Syscall, Err: fmt.Errorf("%w", call.Err)}
}

// unhide reports whether the dial's caller gets another error for err, from a hook, and
// returns the caller's. It does not change err, because a trace may have it too.
func unhide(err error) (hidden bool, _ error) {
	if errors.Is(err, errNotUndone) {
		return true, ErrSelfConnect
	}
	call, ok := errors.AsType[*os.SyscallError](err)
	if ok && errors.Is(call.Err, errAddrNotAvailable) && errors.Unwrap(call.Err) != nil {
		return true, os.NewSyscallError(call.Syscall, errAddrNotAvailable)
	}
	return false, err
}

func errMismatchedLocalAddr(local net.Addr) error {
	return &net.AddrError{Err: "mismatched local address type", Addr: local.String()}
}

func errNoSuitableAddress(local net.Addr) error {
	return &net.AddrError{Err: noSuitableAddress, Addr: local.String()}
}

const noSuitableAddress = "no suitable address found"

func errLocalPortsReversed(r PortRange) error {
	return fmt.Errorf("local ports %d-%d: the first is above the last", r.Low, r.High)
}

// errLocalPortsUnsupported is for a system that cannot be told which ports to
// choose from. The cause may be nil.
func errLocalPortsUnsupported(limits string, cause error) error {
	if cause == nil {
		return fmt.Errorf("%s: %w", limits, errors.ErrUnsupported)
	}
	return fmt.Errorf("%s: %w: %w", limits, errors.ErrUnsupported, cause)
}

// errLocalPortIgnored is for a system that was told which ports to choose from, and
// chose another.
func errLocalPortIgnored(limits string, port uint16) error {
	return fmt.Errorf("%s: the system chose port %d: %w", limits, port, errors.ErrUnsupported)
}
