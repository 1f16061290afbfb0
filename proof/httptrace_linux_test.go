package proof

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/safedial/safedial"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial/internal/nstest"
)

// TestTransportTrace has http.Transport dial with net.Dialer and with Dialer, and
// compares the events that httptrace reports, in their order.
func TestTransportTrace(t *testing.T) {
	isolated(t, func(t *testing.T) {
		server := httptest.NewUnstartedServer(
			http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }),
		)
		l, err := net.Listen("tcp", "127.0.0.2:40000")
		require.NoError(t, err)
		server.Listener.Close()
		server.Listener = l
		server.Start()
		defer server.Close()

		addr := netip.MustParseAddr
		system := net.DefaultResolver
		test := nstest.Zone{
			"one.test":     {addr("127.0.0.2")},
			"several.test": {addr("127.0.0.1"), addr("127.0.0.2"), addr("127.0.0.3")},
			"both.test":    {addr("::1"), addr("127.0.0.2")},
			"refused.test": {addr("::1"), addr("127.0.0.1"), addr("127.0.0.3")},
			"empty.test":   {},
		}.Resolver(t)
		for _, c := range []struct {
			name, url string
			resolver  *net.Resolver
			canceled  bool
		}{
			{"literal", "http://127.0.0.2:40000", system, false},
			{"literal refused", "http://127.0.0.1:9", system, false},
			{"literal canceled", "http://127.0.0.2:40000", system, true},
			{"IPv6 literal refused", "http://[::1]:9", system, false},
			{"localhost refused", "http://localhost:9", system, false},
			{"localhost by Go refused", "http://localhost:9", &net.Resolver{PreferGo: true}, false},
			{"one address", "http://one.test:40000", test, false},
			{"one address refused", "http://one.test:9", test, false},
			{"one address canceled", "http://one.test:40000", test, true},
			{"several addresses", "http://several.test:40000", test, false},
			{"several addresses refused", "http://several.test:9", test, false},
			{"both families", "http://both.test:40000", test, false},
			{"both families refused", "http://refused.test:40000", test, false},
			{"no address", "http://empty.test:40000", test, false},
			{"unknown name", "http://unknown.test:40000", test, false},
		} {
			t.Run(c.name, func(t *testing.T) {
				compareTraces(t, c.resolver, c.url, c.canceled)
			})
		}
	})
}

// compareTraces makes a request by each dialer.
func compareTraces(t *testing.T, resolver *net.Resolver, url string, canceled bool) {
	t.Helper()
	trace := func(dial func(context.Context, string, string) (net.Conn, error)) []string {
		return traced(t, dial, url, canceled)
	}
	withNet := (&net.Dialer{Resolver: resolver}).DialContext
	d := &safedial.Dialer{Resolver: resolver}
	for name, dial := range map[string]func(context.Context, string, string) (net.Conn, error){
		"Dialer": d.DialContext, "NetDialer": d.NetDialer().DialContext,
	} {
		want, got := trace(withNet), trace(dial)
		// A lookup that is canceled at once may have its answer already.
		for tries := 0; tries < 200 && !assert.ObjectsAreEqual(want, got); tries++ {
			want, got = trace(withNet), trace(dial)
		}
		assert.Equal(
			t,
			want,
			got,
			"%s %s: expected is what net of %s reported, actual what safedial did",
			name,
			url,
			runtime.Version(),
		)
		require.NotEmpty(t, got)
		if strings.Contains(url, ".test") && !canceled {
			assert.Equal(t, 1, strings.Count(strings.Join(got, "\n"), "DNSStart"))
		}
	}
}

// traced makes one request and returns its events. What may happen at the same
// time as others is left out: the request that is written.
func traced(
	t *testing.T,
	dial func(context.Context, string, string) (net.Conn, error),
	url string,
	cancel bool,
) []string {
	t.Helper()
	var mu sync.Mutex
	var events []string
	note := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, fmt.Sprintf(format, args...))
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:           func(hostPort string) { note("GetConn %s", hostPort) },
		DNSStart:          func(i httptrace.DNSStartInfo) { note("DNSStart %v", i) },
		DNSDone:           func(i httptrace.DNSDoneInfo) { note("DNSDone %v %v %t", i.Addrs, i.Err, i.Coalesced) },
		ConnectStart:      func(network, addr string) { note("ConnectStart %s %s", network, addr) },
		ConnectDone:       func(network, addr string, err error) { note("ConnectDone %s %s %v", network, addr, err) },
		TLSHandshakeStart: func() { note("TLSHandshakeStart") },
		TLSHandshakeDone:  func(_ tls.ConnectionState, err error) { note("TLSHandshakeDone %v", err) },
		GotConn:           func(i httptrace.GotConnInfo) { note("GotConn %T %s %t", i.Conn, i.Conn.RemoteAddr(), i.Reused) },
	})
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if cancel {
			canceled, stop := context.WithCancel(ctx)
			stop()
			ctx = canceled
		}
		return dial(ctx, network, address)
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	response, err := transport.RoundTrip(request)
	if err != nil {
		note("error %v", err)
	} else {
		note("status %d", response.StatusCode)
		response.Body.Close()
	}
	mu.Lock()
	defer mu.Unlock()
	return events
}
