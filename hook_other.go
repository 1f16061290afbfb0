//go:build !linux || safedial_portable

package safedial

import (
	"context"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
)

// hookBinds reports whether the hook binds LocalAddr. Here net does.
const hookBinds = false

// netTakesHooks reports whether net calls a hook. In WebAssembly it fails if there is one.
const netTakesHooks = runtime.GOOS != "js" && runtime.GOOS != "wasip1"

// lingerUnset is for a dial whose hook has not changed SO_LINGER.
const lingerUnset = -2

// A hook prepares the sockets of a dial. net connects them, and may close one
// that is connected to itself before anyone else sees it. Until the dial has
// returned, they are therefore set to close with a reset, which leaves no TIME_WAIT.
type hook struct {
	caller controlFunc  // the caller's hook, or nil
	linger atomic.Int64 // SO_LINGER as the caller's hook has set it
}

// install makes nd a dialer whose connections can be checked when it has returned.
// The result of a NetDialer, whose network is empty, cannot be. The returned function
// restores the SO_LINGER of a connection.
func (d *Dialer) install(nd *net.Dialer, network string, _ portOrder) (restore func(net.Conn), err error) {
	limits := d.portLimits()
	if err := limits.check(); err != nil {
		return nil, err
	}
	if limits.limited() {
		return nil, errLocalPortsUnsupported(limits.String(), nil)
	}
	if !isTCP(network) || !netTakesHooks {
		return func(net.Conn) {}, nil
	}
	h := &hook{caller: d.callersControl()}
	h.linger.Store(lingerUnset)
	nd.Control, nd.ControlContext = nil, h.control
	return h.restore, nil
}

// control is a net.Dialer.ControlContext.
func (h *hook) control(ctx context.Context, network, address string, c syscall.RawConn) error {
	if h.caller != nil {
		if err := h.caller(ctx, network, address, c); err != nil {
			return err
		}
	}
	port, err := parsePort(address[strings.LastIndexByte(address, ':')+1:])
	if err != nil || h.caller == nil && !systemPorts().mayChoose(port) { // the caller may bind any port
		return err
	}
	return c.Control(func(fd uintptr) {
		h.linger.Store(setLinger(fd, lingerReset))
	})
}

// restore gives the connection the lingering that the caller's hook has set.
func (h *hook) restore(conn net.Conn) {
	was := h.linger.Load()
	if was == lingerUnset {
		return
	}
	if raw, err := conn.(*net.TCPConn).SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { setLinger(fd, was) })
	}
}

// repeatsAround reports whether a dial that failed with err is repeated: net has
// found no local port. net itself has tried three sockets by then, if they are TCP's.
func repeatsAround(_ string, err error, fixed bool) bool {
	return !fixed && (isConnectAddrNotAvail(err) || isConnectAgain(err) || isBindAddrInUse(err))
}
