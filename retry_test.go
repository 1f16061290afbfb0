package safedial

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// TestPauses: the first two retries come at once, the later ones ever later, but
// never past the end of the context.
func TestPauses(t *testing.T) {
	for n, want := range map[int]time.Duration{
		0: 0, 1: 0, 2: time.Millisecond, 3: 2 * time.Millisecond, 9: 128 * time.Millisecond, 10: 128 * time.Millisecond, 1000: 128 * time.Millisecond,
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			pause(t.Context(), n)
			assert.Equal(t, want, time.Since(start), "pause %d", n)
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		start := time.Now()
		pause(ctx, 1000)
		assert.Equal(t, 5*time.Millisecond, time.Since(start))
	})
}
