//go:build !linux

package safedial

import (
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestInstallLeavesTheHook(t *testing.T) {
	var nd net.Dialer
	new(guard).install(&nd)
	assert.Nil(t, nd.Control)
	assert.Nil(t, nd.ControlContext)

	nd.Control = func(string, string, syscall.RawConn) error { return nil }
	nd.LocalAddr = &net.TCPAddr{Port: 1}
	g := &guard{local: &net.TCPAddr{Port: 1}, alone: true}
	g.install(&nd)
	assert.NotNil(t, nd.Control)
	assert.Equal(t, &net.TCPAddr{Port: 1}, nd.LocalAddr)
	assert.False(t, g.connects)
}
