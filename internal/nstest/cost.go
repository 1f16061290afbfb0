package nstest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// AssertRatio asserts that many takes at most so many times as long as few. It compares the
// fastest runs of each, because what else the machine does can only make a run slower. So it
// goes on until the two show it, or until 500 runs of each do not.
func AssertRatio(t *testing.T, most int, few, many func()) {
	t.Helper()
	const enough, limit = 20, 500
	least, longest := time.Hour, time.Hour
	fastest := func(f func(), least time.Duration) time.Duration {
		start := time.Now()
		f()
		return min(least, time.Since(start))
	}
	for i := range limit {
		least, longest = fastest(few, least), fastest(many, longest)
		if i >= enough && longest <= time.Duration(most)*least {
			t.Logf("%v and %v", least, longest)
			return
		}
	}
	assert.Fail(t, "the cost grows too fast", "%v and %v: more than %d times as long", least, longest, most)
}
