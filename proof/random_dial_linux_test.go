package proof

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// A dialed is what came of a dial.
type dialed struct {
	outcome
	err      error
	calls    []socketAddr // of the caller's hook
	attempts []int        // that OnRetry was told of
	took     time.Duration
	port     uint16 // the connection's local one
	remote   string // the host that it leads to
	isSelf   bool

	mu     sync.Mutex
	cancel context.CancelFunc
}

// dialer returns the settings that net.Dialer has, too.
func (s *scenario) dialer() net.Dialer {
	nd := net.Dialer{LocalAddr: s.localAddr(), FallbackDelay: time.Hour}
	nd.SetMultipathTCP(s.Multipath)
	return nd
}

// through dials with m, in the scenario's way. What Go 1.26 does with a laddr that is not
// valid is not what safedial does.
func (s *scenario) through(ctx context.Context, m dialer, safe bool) (net.Conn, error) {
	switch {
	case s.Way == "Dial":
		return m.Dial(s.network(), s.address())
	case s.Way != "typed" || s.Local == "" && !safe:
		return m.DialContext(ctx, s.network(), s.address())
	}
	var from netip.AddrPort
	if s.Local != "" {
		from = nstest.AddrPort(s.localAddr())
	}
	to := netip.MustParseAddrPort(s.address())
	if s.udp() {
		return nstest.NetConn(m.DialUDP(ctx, s.network(), from, to))
	}
	return nstest.NetConn(m.DialTCP(ctx, s.network(), from, to))
}

// dial dials s, with safedial or with package net.
func (w *world) dial(s *scenario, safe bool) *dialed {
	w.t.Helper()
	d := new(dialed)
	nd := s.dialer()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	d.cancel = cancel
	maxRetries := s.MaxRetries
	switch s.End {
	case "canceled":
		cancel()
	case "negative Timeout":
		nd.Timeout = -1
	case "past Deadline":
		nd.Deadline = time.Unix(1, 0)
	case waiting:
		nd.Timeout, maxRetries = 100*time.Millisecond, 1000
	case waitingLong:
		nd.Timeout, maxRetries = 5*time.Second, 1000
	}
	if s.Control != "" || s.End == "canceled by Control" {
		nd.Control = w.hook(s, d)
	}
	var m dialer = &nd
	if safe {
		m = s.safeDialer(&nd, d, maxRetries)
	}

	watchdog := time.AfterFunc(time.Minute, func() {
		debug.SetTraceback("all")
		panic(fmt.Sprintf("a dial hangs: %v", s))
	})
	defer watchdog.Stop()
	start := time.Now()
	var conn net.Conn
	w.within(func() {
		defer func() { d.Panic = recover() }()
		conn, d.err = s.through(ctx, m, safe)
	})
	d.took = time.Since(start)
	d.note(w, conn)
	return d
}

// within runs f as the environment has it.
func (w *world) within(f func()) {
	if w.around != nil {
		w.around(w, f)
		return
	}
	f()
}

func (s *scenario) safeDialer(nd *net.Dialer, d *dialed, maxRetries int) dialer {
	sd := safedial.From(nd)
	sd.MaxRetries = maxRetries
	for _, r := range s.LocalPorts {
		sd.LocalPorts = s.portRange(r)
	}
	for _, r := range s.AvoidPorts {
		sd.AvoidPorts = append(sd.AvoidPorts, s.portRange(r))
	}
	for i := range farPorts {
		if s.AvoidFar {
			sd.AvoidPorts = append(sd.AvoidPorts, ports(uint16(1000+2*i), uint16(1000+2*i)))
		}
	}
	if s.Observed || s.End == "canceled by OnRetry" {
		sd.OnRetry = func(_ context.Context, r safedial.Retry) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.attempts = append(d.attempts, r.Attempt)
			if s.End == "canceled by OnRetry" {
				d.cancel()
			}
		}
	}
	if s.Way == "NetDialer" {
		return sd.NetDialer()
	}
	return sd
}

// hook returns the caller's hook.
func (w *world) hook(s *scenario, d *dialed) controlFunc {
	return func(network, address string, c syscall.RawConn) error {
		d.mu.Lock()
		d.calls = append(d.calls, socketAddr{network, address})
		d.mu.Unlock()
		if s.End == "canceled by Control" {
			d.cancel()
		}
		if s.Control == "" {
			return nil
		}
		return nstest.OnSocket(c, func(fd int) error {
			return controls[s.Control].do(hooked{w, s, network, fd})
		})
	}
}

// note notes what a caller sees of the dial's end, and closes the connection.
func (d *dialed) note(w *world, conn net.Conn) {
	w.t.Helper()
	defer w.accept(bare.reset) // so that nothing is left if the connection cannot be reset
	if d.err != nil {
		d.Errors = chain(d.err)
		return
	}
	if conn == nil {
		return // it has panicked
	}
	defer nstest.Reset(conn)
	d.Conn, d.Remote = fmt.Sprintf("%T", conn), fmt.Sprint(conn.RemoteAddr())
	if addr, ok := conn.LocalAddr().(interface{ AddrPort() netip.AddrPort }); ok {
		d.port, d.Local = addr.AddrPort().Port(), addr.AddrPort().Addr().Unmap().String()
	}
	d.remote, _, _ = net.SplitHostPort(d.Remote)
	d.remote, _, _ = strings.Cut(d.remote, "%")
	d.Options = options(w.t, conn)
	_ = nstest.OnSocket(nstest.RawConn(w.t, conn), func(fd int) error {
		for _, option := range []int{unix.SO_MARK, unix.SO_BINDTOIFINDEX, unix.SO_RCVBUF} {
			value, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option)
			d.Options = append(d.Options, fmt.Sprintf("option %d: %d %v", option, value, err))
		}
		d.isSelf = bare(fd).hearsItself() || safedial.IsSelfConnect(conn)
		return nil
	})
}

// class says in short what came of a dial.
func class(err error) string {
	for _, c := range []struct {
		name string
		is   bool
	}{
		{"connected", err == nil},
		{"self", errors.Is(err, safedial.ErrSelfConnect) || errors.Is(err, errMetItself)},
		{"refused", errors.Is(err, syscall.ECONNREFUSED)},
		{"unsupported", errors.Is(err, errors.ErrUnsupported)},
		{"foreign", isCall(err, "bind") && errors.Is(err, syscall.EADDRNOTAVAIL)},
		{"no port", noPort(err)},
		{"ended", errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
			errors.Is(err, os.ErrDeadlineExceeded)},
	} {
		if c.is {
			return c.name
		}
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return "another error"
}

// isCall reports whether err is that of the system call.
func isCall(err error, name string) bool {
	call, ok := errors.AsType[*os.SyscallError](err)
	return ok && call.Syscall == name
}

// connection describes the connection.
func (d *dialed) connection() string {
	return fmt.Sprintf("%s from %s port %d to %s", d.Conn, d.Local, d.port, d.Remote)
}
