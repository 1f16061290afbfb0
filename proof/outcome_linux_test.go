package proof

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptrace"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// An outcome is what a caller sees of a dial.
type outcome struct {
	Conn     string
	Local    string
	Remote   string
	Options  []string
	Errors   []string
	Controls []string
	Trace    []string
	Panic    any
}

func withTrace(ctx context.Context, note func(format string, args ...any)) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart:     func(i httptrace.DNSStartInfo) { note("DNSStart %v", i) },
		DNSDone:      func(i httptrace.DNSDoneInfo) { note("DNSDone %v %v", i.Addrs, i.Err) },
		ConnectStart: func(network, addr string) { note("ConnectStart %s %s", network, addr) },
		ConnectDone:  func(network, addr string, err error) { note("ConnectDone %s %s %v", network, addr, err) },
	})
}

// chain tells everything of an error and of those it wraps.
//
// A connect that runs into the deadline fails with one of two errors in net, as
// the poller or the context is the first to tell it; they count as one here.
func chain(err error) []string {
	var links []string
	for _, target := range []error{context.Canceled, syscall.ECONNREFUSED, syscall.EADDRNOTAVAIL} {
		links = append(links, fmt.Sprintf("is %v: %t", target, errors.Is(err, target)))
	}
	late := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
	links = append(links, fmt.Sprintf("is late: %t", late))
	for ; err != nil; err = errors.Unwrap(err) {
		link := fmt.Sprintf("%T %q", err, err)
		if late && errors.Unwrap(err) == nil {
			link = fmt.Sprintf("%q", err)
		}
		if op, ok := any(err).(*net.OpError); ok { // this link, not one behind it
			link += fmt.Sprintf(" op %q net %q source %T %v addr %T %v", op.Op, op.Net, op.Source, op.Source, op.Addr, op.Addr)
		}
		if netErr, ok := any(err).(net.Error); ok {
			//nolint:staticcheck // SA1019: callers still use Temporary, so it is compared
			link += fmt.Sprintf(" timeout %t temporary %t", netErr.Timeout(), netErr.Temporary())
		}
		links = append(links, link)
	}
	return links
}

var comparedOptions = []struct {
	name          string
	level, option int
}{
	{"SO_DOMAIN", unix.SOL_SOCKET, unix.SO_DOMAIN},
	{"SO_TYPE", unix.SOL_SOCKET, unix.SO_TYPE},
	{"SO_PROTOCOL", unix.SOL_SOCKET, unix.SO_PROTOCOL},
	{"SO_ERROR", unix.SOL_SOCKET, unix.SO_ERROR},
	{"SO_LINGER", unix.SOL_SOCKET, unix.SO_LINGER},
	{"SO_REUSEADDR", unix.SOL_SOCKET, unix.SO_REUSEADDR},
	{"SO_REUSEPORT", unix.SOL_SOCKET, unix.SO_REUSEPORT},
	{"SO_BROADCAST", unix.SOL_SOCKET, unix.SO_BROADCAST},
	{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE},
	{"TCP_KEEPIDLE", unix.SOL_TCP, unix.TCP_KEEPIDLE},
	{"TCP_KEEPINTVL", unix.SOL_TCP, unix.TCP_KEEPINTVL},
	{"TCP_KEEPCNT", unix.SOL_TCP, unix.TCP_KEEPCNT},
	{"TCP_NODELAY", unix.SOL_TCP, unix.TCP_NODELAY},
	{"IPV6_V6ONLY", unix.SOL_IPV6, unix.IPV6_V6ONLY},
}

// options reads the socket's settings.
func options(t *testing.T, conn net.Conn) []string {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	var list []string
	require.NoError(t, raw.Control(func(fd uintptr) {
		for _, o := range comparedOptions {
			value, err := unix.GetsockoptInt(int(fd), o.level, o.option)
			list = append(list, fmt.Sprintf("%s %d %v", o.name, value, err))
		}
		for _, cmd := range []int{unix.F_GETFL, unix.F_GETFD} {
			flags, err := unix.FcntlInt(fd, cmd, 0)
			list = append(list, fmt.Sprintf("fcntl %d: %#x %v", cmd, flags, err))
		}
	}))
	if tcp, ok := conn.(*net.TCPConn); ok {
		multipath, err := tcp.MultipathTCP()
		list = append(list, fmt.Sprintf("multipath %t %v", multipath, err))
	}
	return list
}
