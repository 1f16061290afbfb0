//go:build !race

package nstest

// RaceDetector reports whether the race detector is on.
const RaceDetector = false
