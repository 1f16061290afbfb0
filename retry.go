package safedial

import (
	"context"
	"os"
	"runtime"
	"sync/atomic"
	"time"
)

// A Retry describes a failed attempt that is about to be retried.
type Retry struct {
	// Network and Address are the arguments that Control gets for the socket: "tcp4"
	// and "127.0.0.1:40000", for example.
	Network, Address string

	// Attempt is the number of attempts of the dial that have failed so far, 1 or
	// more. It never decreases within a dial. In the dials of a NetDialer, it counts
	// the attempts of the socket.
	Attempt int

	// Err is the reason. It matches [ErrSelfConnect]; or the error of a system that
	// found no local port: syscall.EADDRNOTAVAIL (on Windows WSAEADDRNOTAVAIL), for
	// UDP on Linux syscall.EAGAIN, or syscall.EADDRINUSE if LocalAddr has port 0;
	// or [errors.ErrUnsupported], if the system chose a port that LocalPorts or
	// AvoidPorts do not allow.
	Err error
}

// A retryPolicy holds a Dialer's settings for retries.
type retryPolicy struct {
	max     int
	onRetry func(context.Context, Retry)
}

const (
	// immediateRetries is the number of retries that are made without a pause, and
	// of those that are made if MaxRetries is zero. Like net, it assumes that a
	// spurious error does not occur three times in a row.
	immediateRetries = 2

	minPause      = time.Millisecond
	maxPauseShift = 7
)

// pause waits before a retry: not at all before the first two, then minPause, and twice
// as long each time, up to 128 ms. It returns net's error if ctx ends meanwhile.
func pause(ctx context.Context, retriesBefore int) error {
	if retriesBefore < immediateRetries {
		// Without this, clients that dial in a loop keep a server from starting.
		runtime.Gosched()
	} else {
		timer := time.NewTimer(minPause << min(retriesBefore-immediateRetries, maxPauseShift))
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
	}
	if ctx.Err() != nil {
		return endedError(ctx)
	}
	return nil
}

// A record is what the hook of a dial tells the dial. net may call the hook from two
// goroutines at once. A nil record keeps nothing.
type record struct {
	failed atomic.Int64                    // the attempts that have failed
	last   atomic.Pointer[Retry]           // of an address that failed, and that another attempt may help
	caller atomic.Pointer[os.SyscallError] // the last error of the caller's hook, if it is one

	// Of a UDP dial, which has one socket at a time:
	portBound bool // the caller's hook has bound it to a port
	parts     int  // how many parts its ports have
}

// fail counts a failed attempt, and returns how many there have been.
func (r *record) fail() int {
	if r == nil {
		return 0
	}
	return int(r.failed.Add(1))
}

// takeLast returns and forgets last.
func (r *record) takeLast() Retry {
	if r != nil {
		if last := r.last.Swap(nil); last != nil {
			return *last
		}
	}
	return Retry{}
}

// noteCaller remembers an error of the caller's hook that looks like one of net's.
func (r *record) noteCaller(err error) {
	if call, ok := outermost[*os.SyscallError](err); ok && r != nil {
		r.caller.Store(call)
	}
}

// isCallers reports whether err is that error.
func (r *record) isCallers(err error) bool {
	call, ok := outermost[*os.SyscallError](err)
	return ok && r != nil && r.caller.Load() == call
}
