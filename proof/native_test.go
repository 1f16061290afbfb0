//go:build linux && !safedial_portable

package proof

const (
	portable       = false
	socketsPerDial = 1
)
