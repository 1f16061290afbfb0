package proof

import (
	"context"
	"math"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// TestOtherAddressComesFirst dials a name whose first address has no local port left, with
// a large MaxRetries: a dial waits only if no other address can be dialed, as with net.
func TestOtherAddressComesFirst(t *testing.T) {
	isolated(t, func(t *testing.T) {
		nstest.Hosts(t, "127.0.0.2 two\n127.0.0.3 two\n::1 families\n127.0.0.3 families\n")
		nstest.Serve(t, "tcp", ":9000")
		setLocalPorts(t, 40000, 40003)
		for _, address := range []string{"127.0.0.2:9000", "[::1]:9000"} {
			for range 4 {
				conn, err := net.Dial("tcp", address)
				require.NoError(t, err)
				defer nstest.Reset(conn)
			}
		}
		for _, name := range []string{"two:9000", "families:9000"} {
			for _, local := range []net.Addr{nil, tcp("", 0)} {
				if portable && local != nil {
					continue // net binds a port, and none is left
				}
				conn, err := (&net.Dialer{FallbackDelay: -1}).Dial("tcp", name)
				require.NoError(t, err)
				want := conn.RemoteAddr()
				nstest.Reset(conn)

				retries := 0
				ctx, cancel := context.WithCancel(t.Context())
				d := safedial.Dialer{LocalAddr: local, FallbackDelay: -1, MaxRetries: 1000}
				d.OnRetry = func(context.Context, safedial.Retry) {
					if retries++; retries == 10 {
						cancel()
					}
				}
				conn, err = d.DialContext(ctx, "tcp", name)
				cancel()
				if !assert.NoError(t, err, "%s from %v, %d retries", name, local, retries) {
					continue
				}
				assert.Equal(t, want, conn.RemoteAddr())
				assert.LessOrEqual(t, retries, 2*socketsPerDial, "%s from %v: those that make no pause", name, local)
				nstest.Reset(conn)
			}
		}
	})
}

// TestAttemptsNeverDecrease lists the attempts that one dial reports: of several addresses,
// and of Multipath TCP's socket and the TCP socket that follows if that fails.
func TestAttemptsNeverDecrease(t *testing.T) {
	tests := []struct {
		name    string
		address string
		taken   bool // every port is; otherwise only the destination's is left
		mptcp   bool
	}{
		{"self-connections", "127.0.0.1:40000", false, false},
		{"self-connections of two addresses", "localhost:40000", false, false},
		{"self-connections, Multipath TCP", "127.0.0.1:40000", false, true},
		{"no port", "127.0.0.1:9000", true, false},
		{"no port for two addresses", "localhost:9000", true, false},
		{"no port, Multipath TCP", "127.0.0.1:9000", true, true},
		{"no port for two addresses, Multipath TCP", "localhost:9000", true, true},
	}
	isolated(t, func(t *testing.T) {
		nstest.Hosts(t, nstest.DualLocalhost)
		nstest.Serve(t, "tcp", ":9000")
		setLocalPorts(t, onlyPort, onlyPort)
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				if test.taken {
					for _, address := range []string{"127.0.0.1:9000", "[::1]:9000"} {
						conn, err := net.Dial("tcp", address)
						require.NoError(t, err)
						defer nstest.Reset(conn)
					}
				}
				for _, maxRetries := range []int{0, 4} {
					var attempts []int
					d := safedial.Dialer{MaxRetries: maxRetries, FallbackDelay: -1}
					d.SetMultipathTCP(test.mptcp)
					d.OnRetry = func(_ context.Context, r safedial.Retry) { attempts = append(attempts, r.Attempt) }
					_, err := d.Dial("tcp", test.address)
					require.Error(t, err)
					require.NotEmpty(t, attempts)
					assert.IsNonDecreasing(t, attempts, "MaxRetries %d: %v", maxRetries, attempts)
				}
			})
		}
	})
}

// TestSelfConnectionsPause dials in a range of one port with MaxRetries without a limit, so
// that every attempt connects to itself. After the first two retries a dial pauses for 1, 2,
// 4 and up to 128 ms, which bounds the retries whatever the machine's speed.
func TestSelfConnectionsPause(t *testing.T) {
	const end, most = 200 * time.Millisecond, 20 // a pause or two more than 2 + 8 retries
	tests := []struct {
		name, network string
		control       controlFunc
	}{
		{"TCP", "tcp", nil},
		{"TCP with a hook", "tcp", func(string, string, syscall.RawConn) error { return nil }},
		{"UDP", "udp", nil},
		// With SO_REUSEADDR a socket that is kept leaves its port to the next one.
		{"UDP with SO_REUSEADDR", "udp", setOption(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)},
	}
	isolated(t, func(t *testing.T) {
		setLocalPorts(t, onlyPort, onlyPort)
		descriptors, goroutines := nstest.OpenDescriptors(t), runtime.NumGoroutine()
		for _, test := range tests {
			for _, kind := range []string{"Dialer", "NetDialer"} {
				if kind == "NetDialer" && (portable || test.network == "udp") {
					continue // it does not retry
				}
				retries := 0
				ctx, cancel := context.WithTimeout(t.Context(), end)
				d := safedial.Dialer{MaxRetries: math.MaxInt, Control: test.control}
				d.OnRetry = func(context.Context, safedial.Retry) {
					if retries++; retries == 1000 {
						cancel()
					}
				}
				dial := d.DialContext
				if kind == "NetDialer" {
					dial = d.NetDialer().DialContext
				}
				conn, err := dial(ctx, test.network, "127.0.0.1:40000")
				cancel()
				require.Nil(t, conn, "%s of %s", test.name, kind)
				require.Error(t, err, "%s of %s", test.name, kind)
				assert.LessOrEqual(t, retries, most, "%s of %s: retries in %v", test.name, kind, end)
			}
		}
		nstest.AssertNothingLeft(t, descriptors, goroutines)
	})
}
