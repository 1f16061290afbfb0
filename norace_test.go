//go:build !race

package safedial

const raceDetector = false
