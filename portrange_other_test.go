//go:build !linux && !darwin && !freebsd

package safedial

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestPortRangesAreUnsupported(t *testing.T) {
	r, err := LocalPortRange()
	assert.Zero(t, r)
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	reserved, err := ReservedPorts()
	assert.Nil(t, reserved)
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	ephemeral, err := IsEphemeral(40000)
	assert.False(t, ephemeral)
	assert.ErrorIs(t, err, errors.ErrUnsupported)
}
