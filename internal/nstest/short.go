package nstest

import "testing"

// Fewer returns n, or with -short a twentieth of it.
func Fewer(n int) int {
	if testing.Short() {
		return max(n/20, 1)
	}
	return n
}

// Long skips the test with -short, because it takes seconds.
func Long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("not with -short")
	}
}
