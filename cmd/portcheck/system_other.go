//go:build !linux

package main

import (
	"runtime"
	"slices"
)

// columns are columns of README's table.
var columns = []string{"other Unix, Windows", "Plan 9, js, wasip1"}

// askSystem asks nothing: safedial uses no options of this system.
func askSystem() systemReport {
	column := columns[0]
	if slices.Contains([]string{"plan9", "js", "wasip1"}, runtime.GOOS) {
		column = columns[1]
	}
	return systemReport{[]feature{}, []promise{{"TCP and UDP", column}}}
}
