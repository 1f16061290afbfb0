package safedial

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// TestBackoff: the first two retries follow immediately, the later ones after
// longer and longer pauses, but never past the end of the context.
func TestBackoff(t *testing.T) {
	noPort := os.NewSyscallError("connect", errAddrNotAvailable)
	here := netip.MustParseAddrPort("127.0.0.1:9")
	const ms = time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		r := retries{retryPolicy: retryPolicy{max: 12}}
		for i, want := range []time.Duration{0, 0, ms, 2 * ms, 4 * ms, 8 * ms, 16 * ms, 32 * ms, 64 * ms, 128 * ms, 128 * ms, 128 * ms} {
			start := time.Now()
			if i >= immediateRetries {
				// The check for a source makes a real socket, which no bubble may.
				backoff(t.Context(), r.withoutPort-immediateRetries)
				r.failed, r.withoutPort = r.failed+1, r.withoutPort+1
			} else {
				again, err := r.next(t.Context(), "tcp4", here.String(), here, noPort)
				assert.True(t, again, "retry %d", i)
				assert.NoError(t, err)
			}
			assert.Equal(t, want, time.Since(start), "retry %d", i)
		}
		again, err := r.next(t.Context(), "tcp4", here.String(), here, ErrSelfConnect)
		assert.False(t, again, "after MaxRetries")
		assert.NoError(t, err)
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*ms)
		defer cancel()
		start := time.Now()
		backoff(ctx, 1000)
		assert.Equal(t, 5*ms, time.Since(start))
	})
}

// TestEnded: no retry, and no OnRetry, once the context has ended; if it ends in
// OnRetry, the error is net's for that.
func TestEnded(t *testing.T) {
	here := netip.MustParseAddrPort("127.0.0.1:9")
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	r := retries{retryPolicy: retryPolicy{max: 5, onRetry: func(context.Context, Retry) { calls++; cancel() }}}
	again, err := r.next(ctx, "tcp4", here.String(), here, ErrSelfConnect)
	assert.False(t, again)
	assert.EqualError(t, err, "operation was canceled")
	assert.ErrorIs(t, err, context.Canceled)

	again, err = r.next(ctx, "tcp4", here.String(), here, errors.New("the dial's own"))
	assert.False(t, again)
	assert.NoError(t, err)
	assert.Equal(t, 1, calls)
}
