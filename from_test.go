package safedial_test

import (
	"context"
	"net"
	"reflect"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial"
)

// TestFromCopiesEveryField sets every exported field of net.Dialer, of whatever Go release
// the tests are built with.
func TestFromCopiesEveryField(t *testing.T) {
	nd := net.Dialer{
		Timeout:         1,
		Deadline:        time.Unix(2, 0),
		LocalAddr:       &net.UDPAddr{Port: 3},
		DualStack:       true, //nolint:staticcheck // SA1019: From copies it too
		FallbackDelay:   4,
		KeepAlive:       5,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 6},
		Resolver:        new(net.Resolver),
		Cancel:          make(chan struct{}), //nolint:staticcheck // SA1019: From copies it too
		Control:         func(string, string, syscall.RawConn) error { return nil },
		ControlContext:  func(context.Context, string, string, syscall.RawConn) error { return nil },
	}
	from, to := reflect.ValueOf(nd), reflect.ValueOf(*safedial.From(&nd))
	for i := range from.NumField() {
		field := from.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		want, got := from.Field(i), to.FieldByName(field.Name)
		require.False(t, want.IsZero(), "the test does not set %s", field.Name)
		if field.Type.Kind() == reflect.Func {
			assert.Equal(t, want.Pointer(), got.Pointer(), field.Name)
		} else {
			assert.Equal(t, want.Interface(), got.Interface(), field.Name)
		}
	}
}

// TestFromKeepsTheRest: what net.Dialer has not is as in a zero Dialer, and later changes of
// the net.Dialer have no effect.
func TestFromKeepsTheRest(t *testing.T) {
	nd := new(net.Dialer)
	d := safedial.From(nd)
	nd.Timeout = time.Second
	nd.SetMultipathTCP(!nd.MultipathTCP())
	assert.Equal(t, new(safedial.Dialer), d)
}

// TestFromMultipathTCP: the setting stays as it is in the net.Dialer, even if it is not set
// and the default changes later.
func TestFromMultipathTCP(t *testing.T) {
	set := func(use bool) *net.Dialer {
		nd := new(net.Dialer)
		nd.SetMultipathTCP(use)
		return nd
	}
	tests := []struct {
		name string
		nd   *net.Dialer
	}{
		{"not set", new(net.Dialer)},
		{"on", set(true)},
		{"off", set(false)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := safedial.From(test.nd)
			assert.Equal(t, test.nd.MultipathTCP(), d.MultipathTCP())
			assert.Equal(t, test.nd.MultipathTCP(), d.NetDialer().MultipathTCP())
			for _, setting := range []string{"multipathtcp=1", "multipathtcp=0"} {
				t.Setenv("GODEBUG", setting)
				assert.Equal(t, test.nd.MultipathTCP(), d.MultipathTCP(), setting)
				assert.Equal(t, test.nd.MultipathTCP(), d.NetDialer().MultipathTCP(), setting)
			}
		})
	}
}

// TestPorts: the ranges hold the ports, and no other.
func TestPorts(t *testing.T) {
	tests := []struct {
		name  string
		ports []uint16
	}{
		{"none", nil},
		{"one", []uint16{40000}},
		{"out of order", []uint16{40002, 65535, 1, 40000}},
		{"twice", []uint16{40000, 40000}},
		{"neighbors", []uint16{40000, 40001, 40002, 40004}},
		{"port 0, which no socket has", []uint16{0}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			want, got := map[uint16]bool{}, map[uint16]bool{}
			for _, port := range test.ports {
				want[port] = true
			}
			delete(want, 0)
			for _, r := range safedial.Ports(test.ports...) {
				for port := 1; port <= 65535; port++ {
					if r.Contains(uint16(port)) {
						got[uint16(port)] = true
					}
				}
			}
			assert.Equal(t, want, got)
		})
	}
}
