package proof

import (
	"context"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// TestUDPInCrowdedRange dials while one port is left beside the destination's.
func TestUDPInCrowdedRange(t *testing.T) {
	for name, options := range map[string][]uint32{"": nil, "WithoutPortRange": {unix.IP_LOCAL_PORT_RANGE}} {
		t.Run(name, func(t *testing.T) {
			nstest.Run(t, func(t *testing.T) {
				if options != nil {
					withoutOptions(t, options...)
				}
				nstest.SetLocalPorts(t, 40000, 40019)
				takeAllUDPPorts(t, ports(40001, 40009))
				takeAllUDPPorts(t, ports(40011, 40019))
				for _, local := range []net.Addr{nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.UDPAddr{}} {
					for kind, dial := range dialsOf(&safedial.Dialer{LocalAddr: local}) {
						failed := 0
						for range 200 {
							conn, err := dial("udp", "127.0.0.1:40010")
							if err != nil {
								failed++
								continue
							}
							assert.False(t, safedial.IsSelfConnect(conn), kind)
							conn.Close()
						}
						if kind == "Dialer" || local != nil || options != nil {
							assert.Zero(t, failed, "%s from %v", kind, local)
						}
					}
				}
			})
		})
	}
}

// TestUDPWaitsForAPort has every port taken, and one freed 50 ms after the first retry.
func TestUDPWaitsForAPort(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, 40000, 40003)
		from := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}
		for name, c := range map[string]struct {
			local net.Addr
			dial  func(d *safedial.Dialer) (net.Conn, error)
			errno error
		}{
			"Dialer":              {nil, func(d *safedial.Dialer) (net.Conn, error) { return d.Dial("udp", "127.0.0.1:9000") }, os.NewSyscallError("connect", syscall.EAGAIN)},
			"Dialer from IP:0":    {from, func(d *safedial.Dialer) (net.Conn, error) { return d.Dial("udp", "127.0.0.1:9000") }, os.NewSyscallError("bind", syscall.EADDRINUSE)},
			"NetDialer from IP:0": {from, func(d *safedial.Dialer) (net.Conn, error) { return d.NetDialer().Dial("udp", "127.0.0.1:9000") }, os.NewSyscallError("bind", syscall.EADDRINUSE)},
			"Dialer, inside":      {nil, func(d *safedial.Dialer) (net.Conn, error) { return d.Dial("udp", "127.0.0.1:40001") }, os.NewSyscallError("connect", syscall.EAGAIN)},
		} {
			if portable && strings.HasPrefix(name, "NetDialer") {
				continue // it does not retry
			}
			t.Run(name, func(t *testing.T) {
				taken := takeAllUDPPorts(t, ports(40000, 40003))
				retries := 0
				d := safedial.Dialer{LocalAddr: c.local, MaxRetries: -1}
				_, err := c.dial(&d)
				assert.Equal(t, c.errno, nstest.OpError(t, err).Err)

				d.MaxRetries = 20
				d.OnRetry = func(_ context.Context, r safedial.Retry) {
					if retries++; retries == 1 {
						time.AfterFunc(50*time.Millisecond, func() { taken[0].Close() })
					}
					assert.Equal(t, retries, r.Attempt)
					assert.Equal(t, "udp4", r.Network)
					assert.Equal(t, c.errno, r.Err)
				}
				conn, err := c.dial(&d)
				require.NoError(t, err)
				assert.Positive(t, retries)
				conn.Close()
				for _, packets := range taken {
					packets.Close()
				}
			})
		}
	})
}

// TestUDPOtherRangeIsNoRetry has free ports on one side of the destination's alone.
func TestUDPOtherRangeIsNoRetry(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		requirePortRange(t)
		nstest.SetLocalPorts(t, 40000, 40004)
		for _, isReserved := range []bool{false, true} {
			for _, side := range []safedial.PortRange{ports(40000, 40001), ports(40003, 40004)} {
				var taken []net.PacketConn
				if isReserved {
					nstest.SetReservedPorts(t, side.String())
				} else {
					taken = takeAllUDPPorts(t, side)
				}
				for _, local := range []net.Addr{nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}} {
					d := safedial.Dialer{LocalAddr: local, MaxRetries: -1, OnRetry: func(_ context.Context, r safedial.Retry) { t.Error(r) }}
					for range 200 {
						conn, err := d.Dial("udp", "127.0.0.1:40002")
						require.NoError(t, err, "from %v, %s, reserved %t", local, side, isReserved)
						conn.Close()
					}
				}
				for _, packets := range taken {
					packets.Close()
				}
				nstest.SetReservedPorts(t, "")
			}
		}
	})
}
