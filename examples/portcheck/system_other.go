//go:build !linux

package main

// rows are those of README's table, as it has them.
var rows = []string{"other Unix, Windows: `Dialer`", "other systems: `NetDialer()`"}

// askSystem asks nothing: safedial uses no options of this system.
func askSystem() systemReport {
	return systemReport{[]feature{}, []promise{{"Dialer", rows[0]}, {"NetDialer", rows[1]}}}
}
