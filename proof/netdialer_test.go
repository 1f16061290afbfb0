package proof

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// TestNetDialerTLS hands NetDialer to package tls, which takes nothing else.
func TestNetDialerTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	config := &tls.Config{RootCAs: roots, ServerName: "example.com"}
	d := safedial.Dialer{Timeout: 10 * time.Second}
	address := server.Listener.Addr().String()

	conn, err := (&tls.Dialer{NetDialer: d.NetDialer(), Config: config}).DialContext(t.Context(), "tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	client := http.Client{
		Transport: &http.Transport{
			DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		},
	}
	response, err := client.Get(server.URL)
	require.NoError(t, err)
	response.Body.Close()
	assert.Equal(t, http.StatusNotFound, response.StatusCode)

	other, err := tls.DialWithDialer(d.NetDialer(), "tcp", address, config)
	require.NoError(t, err)
	defer other.Close()
	assert.IsType(t, (*net.TCPConn)(nil), other.NetConn())
	assert.False(t, safedial.IsSelfConnect(other))
}

// TestResolver has a resolver ask its server over Dialer and NetDialer.
func TestResolver(t *testing.T) {
	want := netip.MustParseAddr("192.0.2.1")
	for name, dial := range map[string]func(context.Context, string, string) (net.Conn, error){
		"Dialer": new(safedial.Dialer).DialContext, "NetDialer": new(safedial.Dialer).NetDialer().DialContext,
	} {
		resolver := nstest.Zone{"name.test": {want}}.Resolver(t)
		inner := resolver.Dial
		resolver.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := inner(ctx, network, address)
			if err != nil {
				return nil, err
			}
			defer conn.Close()
			return dial(ctx, "udp", conn.RemoteAddr().String())
		}
		got, err := resolver.LookupNetIP(t.Context(), "ip4", "name.test")
		require.NoError(t, err, name)
		assert.Equal(t, []netip.Addr{want}, got, name)
	}
}
