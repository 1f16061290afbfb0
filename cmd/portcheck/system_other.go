//go:build !linux

package main

import (
	"runtime"
	"slices"
)

// kept are the promises of README's table that hold, without SO_LINGER in the second place.
var kept = []string{"those of other Unix and Windows", "those of other systems"}

// askSystem asks nothing: safedial uses no options of this system.
func askSystem() systemReport {
	holds := kept[0]
	if slices.Contains([]string{"plan9", "js", "wasip1"}, runtime.GOOS) {
		holds = kept[1]
	}
	return systemReport{[]feature{}, []promise{{"TCP and UDP", holds}}}
}
