//go:build !safedial_portable

package safedial

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
)

// A hook connects the sockets of a dial: net.Dialer calls control for each
// one, between socket(2) and bind(2). It is written before the dial, and not again,
// because with Happy Eyeballs net may call it after the dial has returned.
type hook struct {
	retryPolicy
	portLimits
	portOrder
	caller controlFunc    // the caller's hook, or nil
	local  net.Addr       // LocalAddr, for errors
	from   netip.AddrPort // LocalAddr, to bind; not valid if there is none
}

// plainHook is the hook of a dial with no settings of safedial's own.
var plainHook = (&hook{retryPolicy: retryPolicy{max: defaultRetries}}).control

// hookBinds reports whether the hook binds LocalAddr.
const hookBinds = true

// install makes nd a dialer that prevents self-connections on network; an empty
// network means any. LocalAddr moves into the hook, unless net refuses it in any
// case. The returned function has nothing to take back here.
func (d *Dialer) install(nd *net.Dialer, network string, order portOrder) (restore func(net.Conn), err error) {
	restore = func(net.Conn) {}
	limits := d.portLimits()
	if err := limits.check(); err != nil {
		return nil, err
	}
	from, ok := bindable(nd.LocalAddr, network)
	if !ok {
		return restore, nil
	}
	caller := d.callersControl()
	nd.Control, nd.ControlContext = nil, plainHook
	if from.IsValid() || caller != nil || d.MaxRetries != 0 || d.OnRetry != nil || limits.limited() || order.round > 0 {
		h := hook{d.retryPolicy(), limits, order, caller, nd.LocalAddr, from}
		nd.ControlContext = h.control
	}
	if from.IsValid() {
		nd.LocalAddr = nil
	}
	return restore, nil
}

// control is a net.Dialer.ControlContext. It calls the caller's hook, then connects
// a TCP socket, or makes a UDP socket ready for net to connect.
func (h *hook) control(ctx context.Context, network, address string, c syscall.RawConn) error {
	if err := h.callCaller(ctx, network, address, c); err != nil {
		return err
	}
	if h.from.IsValid() && !strings.HasPrefix(network, h.local.Network()) {
		return errMismatchedLocalAddr(h.local)
	}
	if !isTCP(network) && !isUDP(network) {
		return nil
	}
	dest, err := parseDestination(network, address)
	if err != nil || dest.refusedByNet() {
		return err
	}
	s := newSocket(h, dest)
	defer s.free()
	for r := (retries{retryPolicy: h.retryPolicy}); ; {
		again, err := s.attempt(c)
		if !again {
			return err
		}
		if again, ended := r.next(ctx, network, address, dest.AddrPort, err); !again {
			return cmp.Or(ended, err)
		}
		if err := h.callCaller(ctx, network, address, c); err != nil {
			return err
		}
	}
}

func (h *hook) callCaller(ctx context.Context, network, address string, c syscall.RawConn) error {
	if h.caller == nil {
		return nil
	}
	return h.caller(ctx, network, address, c)
}

// repeatsAround reports whether a dial that failed with err is repeated around the
// hook: connect(2) has found no port for a UDP socket, or the hook could not undo a
// self-connection.
func repeatsAround(network string, err error, _ bool) bool {
	return errors.Is(err, errNotUndone) || isUDP(network) && isConnectAgain(err)
}
