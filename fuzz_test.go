package safedial

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzTarget holds a target to what it names: TCP as it is, or a path that is the
// target's own end.
func FuzzTarget(f *testing.F) {
	for _, seed := range []string{"", "127.0.0.1:80", "[::1]:80", "unix:a", "unix:///a", "unix://", "unix:", "unix", "unix-abstract:a", "\x00a", "unix:@a", "unix:%20", "unix.:80", ":unix:"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		network, address := parseTarget(target)
		switch network {
		case "tcp":
			assert.Equal(t, target, address)
			assert.False(t, strings.HasPrefix(target, "unix:") || strings.HasPrefix(target, "unix-abstract:") || strings.HasPrefix(target, "\x00"))
		case "unix":
			if rest, abstract := strings.CutPrefix(address, "@"); abstract && strings.HasPrefix(target, "unix-abstract") {
				address = rest
			}
			assert.True(t, strings.HasSuffix(target, address), "%q of %q", address, target)
		default:
			t.Errorf("network %q", network)
		}
	})
}

// FuzzSameEnd compares two ends, and each with itself, in all the forms that the
// same address has.
func FuzzSameEnd(f *testing.F) {
	for _, seed := range [][2]string{{"127.0.0.1:1", "127.0.0.1:1"}, {"[::ffff:127.0.0.1]:1", "127.0.0.1:1"}, {"[fe80::1%lo]:1", "[fe80::1]:1"}, {"[::]:1", "0.0.0.0:1"}, {"127.0.0.1:0", "127.0.0.1:0"}, {"", ""}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		local, _ := netip.ParseAddrPort(a)
		peer, _ := netip.ParseAddrPort(b)
		got := sameEndpoint(local, peer)

		to := peer.Addr().Unmap().WithZone("")
		alike := local.Addr().IsValid() && peer.Addr().IsValid() && local.Addr().As16() == peer.Addr().As16()
		switch to.String() {
		case "invalid IP", "0.0.0.0":
			alike = true
		case "::":
			alike = slices.Contains([]string{"::1", "127.0.0.1"}, local.Addr().Unmap().WithZone("").String())
		case "255.255.255.255":
			alike = false
		}
		want := local.Port() != 0 && local.Port() == peer.Port() && alike && !to.IsMulticast()
		assert.Equal(t, want, got, "%s to %s", local, peer)
		if local.Addr().IsValid() && peer.Addr().IsValid() {
			mapped := netip.AddrPortFrom(netip.AddrFrom16(local.Addr().As16()), local.Port())
			assert.Equal(t, got, sameEndpoint(mapped, peer), "%s mapped to IPv6", local)
		}
		own := local.Addr().Unmap().WithZone("")
		if local.Port() != 0 && !own.IsMulticast() && own.String() != "255.255.255.255" && own != netip.IPv6Unspecified() {
			require.True(t, sameEndpoint(local, local))
		}
	})
}
