//go:build !unix && !windows

package safedial

// linger and setLinger do nothing: these systems have no SO_LINGER.
func linger(uintptr) int64     { return lingerOff }
func setLinger(uintptr, int64) {}
