package proof

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/smtp"
	"strings"
	"testing"
	"time"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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

	for name, dial := range map[string]func() (net.Conn, error){
		"tls.Dialer": func() (net.Conn, error) {
			td := tls.Dialer{NetDialer: d.NetDialer(), Config: config}
			return td.DialContext(t.Context(), "tcp", address)
		},
		"tls.DialWithDialer": func() (net.Conn, error) {
			return nstest.NetConn(tls.DialWithDialer(d.NetDialer(), "tcp", address, config))
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := dial()
			require.NoError(t, err)
			defer conn.Close()
			assert.IsType(t, (*net.TCPConn)(nil), conn.(*tls.Conn).NetConn())
			assert.False(t, safedial.IsSelfConnect(conn))
			require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
			_, err = fmt.Fprint(conn, "GET / HTTP/1.0\r\n\r\n")
			require.NoError(t, err)
			status, err := bufio.NewReader(conn).ReadString('\n')
			require.NoError(t, err)
			assert.Contains(t, status, "404")
		})
	}
}

// TestNetDialerSMTP runs net/smtp over it.
func TestNetDialerSMTP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "220 ready\r\n")
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "QUIT") {
				fmt.Fprint(conn, "221 bye\r\n")
				return
			}
			fmt.Fprint(conn, "250 fine\r\n")
		}
	}()
	d := safedial.Dialer{Timeout: 10 * time.Second}
	conn, err := d.NetDialer().DialContext(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	client, err := smtp.NewClient(conn, "127.0.0.1")
	require.NoError(t, err)
	require.NoError(t, client.Hello("localhost"))
	require.NoError(t, client.Noop())
	require.NoError(t, client.Quit())
}

// TestNetDialerResolver has a resolver ask its server over it.
func TestNetDialerResolver(t *testing.T) {
	want := netip.MustParseAddr("192.0.2.1")
	resolver := nstest.Zone{"name.test": {want}}.Resolver(t)
	inner, d := resolver.Dial, new(safedial.Dialer).NetDialer()
	resolver.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := inner(ctx, network, address)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		return d.DialContext(ctx, "udp", conn.RemoteAddr().String())
	}
	got, err := resolver.LookupNetIP(t.Context(), "ip4", "name.test")
	require.NoError(t, err)
	assert.Equal(t, []netip.Addr{want}, got)
}

// TestNetDialerLaterChanges: it is a copy.
func TestNetDialerLaterChanges(t *testing.T) {
	d := safedial.Dialer{Timeout: time.Hour}
	nd := d.NetDialer()
	d.Timeout = time.Nanosecond
	assert.Equal(t, time.Hour, nd.Timeout)
}
