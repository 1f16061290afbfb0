package safedial

import (
	"errors"
	"net"
	"os"
)

// dialError returns an error of net.Dialer's form. A source of nil is none.
func dialError(network string, source, addr net.Addr, err error) error {
	return &net.OpError{Op: "dial", Net: network, Source: source, Addr: addr, Err: err}
}

// unavailable reports whether err is the one that connect gives when it finds
// no local port, spurious or not. bind(2) has the same errno for an address
// that is not this machine's, which no second try can mend.
func unavailable(err error) bool {
	return failed(err, errAddrNotAvailable, "connect", "connectex")
}

// noPortToBind reports whether err is the one that bind(2) of port 0 gives when
// it finds none.
func noPortToBind(err error) bool { return failed(err, errAddrInUse, "bind") }

// noPort reports whether err says, in any way, that no local port was found. Linux
// has EAGAIN for it where connect(2) picks the port of a UDP socket.
func noPort(err error) bool {
	return unavailable(err) || noPortToBind(err) || failed(err, errTryAgain, "connect")
}

// failed reports whether err is that one of the system calls failed with errno.
func failed(err, errno error, calls ...string) bool {
	call, ok := errors.AsType[*os.SyscallError](err)
	if !ok || !errors.Is(call.Err, errno) {
		return false
	}
	for _, name := range calls {
		if call.Syscall == name {
			return true
		}
	}
	return false
}

// held keeps EADDRNOTAVAIL from net, which would repeat the dial by itself, and
// so multiply the work of a machine that is out of ports.
type held struct{ error }

func (h held) Unwrap() error { return h.error }

// released returns err, from net, as it would be if nothing had been held. It
// does not change it, for a trace may have it too.
func released(err error) error {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok {
		return err
	}
	h, ok := errors.AsType[held](op.Err)
	if !ok {
		return err
	}
	return dialError(op.Net, op.Source, op.Addr, h.error)
}
