package safedial

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"time"
)

// A Retry describes a failed attempt that is about to be retried.
type Retry struct {
	// Network and Address are the arguments that Control gets for the socket: "tcp4"
	// and "127.0.0.1:40000", for example.
	Network, Address string

	// Attempt is the number of attempts at this address that have failed so far,
	// 1 or more.
	Attempt int

	// Err is the reason. It matches [ErrSelfConnect]; or the error of a system that
	// found no local port: syscall.EADDRNOTAVAIL (on Windows WSAEADDRNOTAVAIL), for
	// UDP on Linux syscall.EAGAIN, or syscall.EADDRINUSE if LocalAddr has port 0;
	// or [errors.ErrUnsupported], if the system chose a port that LocalPorts or
	// AvoidPorts do not allow.
	Err error
}

const (
	defaultRetries = 2

	// immediateRetries is the number of retries that are made without a pause. Like
	// net, it assumes that a spurious error does not occur three times in a row.
	immediateRetries = 2

	minBackoff      = time.Millisecond
	maxBackoffShift = 7
)

// A retryPolicy holds the settings of a Dialer for retries.
type retryPolicy struct {
	max     int
	onRetry func(context.Context, Retry)
}

func (d *Dialer) retryPolicy() retryPolicy {
	if d.MaxRetries == 0 {
		return retryPolicy{defaultRetries, d.OnRetry}
	}
	return retryPolicy{max(0, d.MaxRetries), d.OnRetry}
}

// retries counts the failed attempts at one address.
type retries struct {
	retryPolicy
	failed, withoutPort int
}

// next reports whether the attempt that failed with cause is repeated, after it has
// called OnRetry and made the pause. If ctx ends meanwhile, it returns net's error
// for that. A destination to which the host has no source address is not worth a
// pause.
func (r *retries) next(ctx context.Context, network, address string, dest netip.AddrPort, cause error) (again bool, err error) {
	noPort := !errors.Is(cause, ErrSelfConnect)
	pauses := noPort && r.withoutPort >= immediateRetries
	if r.failed++; r.failed > r.max || ctx.Err() != nil || pauses && !hasSource(dest) {
		return false, nil
	}
	if r.onRetry != nil {
		_, reason := unhide(cause)
		r.onRetry(ctx, Retry{Network: network, Address: address, Attempt: r.failed, Err: reason})
	}
	if pauses {
		backoff(ctx, r.withoutPort-immediateRetries)
	} else {
		runtime.Gosched() // or clients that dial in a loop keep a server from starting
	}
	if noPort {
		r.withoutPort++
	}
	if ctx.Err() != nil {
		return false, endedError(ctx, network, address)
	}
	return true, nil
}

// backoff waits for minBackoff, doubled n times but not more often than
// maxBackoffShift, or until ctx ends.
func backoff(ctx context.Context, n int) {
	timer := time.NewTimer(minBackoff << min(n, maxBackoffShift))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// endedError returns net's error for a dial of a literal address whose context has
// ended. net makes no socket for it.
func endedError(ctx context.Context, network, address string) error {
	_, err := new(net.Dialer).DialContext(ctx, network, address)
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// hasSource reports whether the host has a source address for dest. If it has none
// (IPv6 is off, for example), connect fails with EADDRNOTAVAIL as it does if no
// port is left.
func hasSource(dest netip.AddrPort) bool {
	_, err := sourceTo(dest)
	return !isConnectAddrNotAvail(err)
}

// sourceTo returns the address that a socket gets when it connects to dest. A UDP
// socket sends nothing when it connects. If no port is left for it, an address that
// can be bound is the host's own, and its own source.
func sourceTo(dest netip.AddrPort) (netip.Addr, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(dest))
	if err == nil {
		defer conn.Close()
		return addrPort(conn.LocalAddr()).Addr(), nil
	}
	if isConnectAgain(err) {
		bound, bindErr := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(dest.Addr(), 0)))
		if bindErr == nil {
			bound.Close()
		}
		if bindErr == nil || isBindAddrInUse(bindErr) {
			return dest.Addr(), nil
		}
	}
	return netip.Addr{}, err
}
