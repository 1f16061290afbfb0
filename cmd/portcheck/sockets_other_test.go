//go:build !linux

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestOtherSystems fails as the usage says.
func TestOtherSystems(t *testing.T) {
	for _, args := range [][]string{nil, {"40000"}, {"-json"}, {"-watch"}} {
		var out, errs strings.Builder
		assert.Equal(t, statusError, run(t.Context(), args, &out, &errs))
		assert.Equal(t, "portcheck: needs Linux\n", errs.String())
		assert.Empty(t, out.String())
	}
	var out, errs strings.Builder
	assert.Equal(t, statusNone, run(t.Context(), []string{"-system"}, &out, &errs))
	assert.NotEmpty(t, out.String())
}
