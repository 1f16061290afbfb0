//go:build !linux || safedial_portable

package safedial

import (
	"context"
	"net"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// hookConnects reports whether the hook binds and connects TCP sockets, and can tell a
// socket which local ports to choose from. Here net binds and connects.
const hookConnects = false

// netTakesHooks reports whether net calls a hook. In WebAssembly it fails if there is one.
const netTakesHooks = runtime.GOOS != "js" && runtime.GOOS != "wasip1"

// A hook is what net.Dialer calls for each socket of a dial, between socket(2) and
// bind(2): its method control is a ControlContext. net connects the sockets, and may
// close one that is connected to itself before anyone else sees it. The hook therefore
// sets TCP sockets to close with a reset, which leaves no TIME_WAIT, until the dial has
// returned.
type hook struct {
	caller controlFunc // the caller's hook, or nil
	record *record     // of the dial; nil if it needs none
	tcp    bool

	mu     sync.Mutex
	linger map[uintptr]int64 // SO_LINGER as the caller's hook has left it, of each descriptor
}

// setHook has nd call a hook. The result gives a connection what the hook has changed
// back; nil if that is nothing. UDP dials have a hook only if the caller has.
func (g *dial) setHook(nd *net.Dialer, _, _ int) (restore func(net.Conn)) {
	tcp := isTCP(g.target.network)
	if !netTakesHooks || !tcp && g.caller == nil {
		return nil
	}
	h := &hook{caller: g.caller, record: g.record, tcp: tcp}
	nd.Control, nd.ControlContext = nil, h.control
	return h.restore
}

// guard does nothing: the connections of a NetDialer cannot be checked here.
func (d *Dialer) guard(*net.Dialer, limits) {}

// control is the ControlContext.
func (h *hook) control(ctx context.Context, network, address string, c syscall.RawConn) error {
	if h.caller != nil {
		if err := h.caller(ctx, network, address, c); err != nil {
			h.record.noteCaller(err)
			return err
		}
	}
	if !h.tcp {
		return nil
	}
	port, err := parsePort(address[strings.LastIndexByte(address, ':')+1:])
	if err != nil || h.caller == nil && !recentPorts().local.Contains(port) { // the caller may bind any port
		return err
	}
	return c.Control(func(fd uintptr) {
		was := setLinger(fd, lingerReset)
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.linger == nil {
			h.linger = map[uintptr]int64{}
		}
		h.linger[fd] = was // and not that of a socket that had the descriptor before
	})
}

// restore gives the connection the lingering that the caller's hook has set for it.
func (h *hook) restore(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if was, ok := h.linger[fd]; ok {
			setLinger(fd, was)
		}
	})
}
