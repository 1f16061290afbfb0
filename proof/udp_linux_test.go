package proof

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// TestUDPNeverSelfConnects dials a port that no socket has, of a range of twenty.
func TestUDPNeverSelfConnects(t *testing.T) { isolated(t, dialClosedUDP) }

// TestUDPNeverSelfConnectsWithoutPortRange is the same on a kernel before 6.3.
func TestUDPNeverSelfConnectsWithoutPortRange(t *testing.T) {
	isolated(t, dialClosedUDP, unix.IP_LOCAL_PORT_RANGE)
}

func dialClosedUDP(t *testing.T) {
	const address = "127.0.0.1:40010"
	dials := nstest.Fewer(10_000)
	setLocalPorts(t, 40000, 40019)
	self := 0
	for range nstest.Fewer(4000) {
		conn, err := net.Dial("udp", address)
		require.NoError(t, err)
		if safedial.IsSelfConnect(conn) {
			self++
		}
		conn.Close()
	}
	t.Logf("net.Dialer: %d of %d UDP dials connected to themselves", self, nstest.Fewer(4000))
	require.NotZero(t, self, "the test does not show the effect")

	var retries atomic.Int64
	d := safedial.Dialer{OnRetry: countSelf(&retries)}
	for range dials {
		conn, err := d.Dial("udp", address)
		require.NoError(t, err)
		require.False(t, safedial.IsSelfConnect(conn), "%s to %s", conn.LocalAddr(), conn.RemoteAddr())
		conn.Close()
	}
	t.Logf("safedial: 0 of %d, %d retries", dials, retries.Load())
	if !portable {
		assert.Zero(t, retries.Load(), "another port is no retry")
	}
}

// TestUDPRetries is in a range of one port: while the first socket is kept open the
// others find no port, and all are closed in the end.
func TestUDPRetries(t *testing.T) {
	isolated(t, func(t *testing.T) {
		setLocalPorts(t, onlyPort, onlyPort)
		descriptors := nstest.OpenDescriptors(t)
		for maxRetries, want := range map[int]int{-1: 0, 0: 2, 5: 5} {
			for _, local := range []net.Addr{nil, udp("127.0.0.1", 0)} {
				retries := 0
				d := safedial.Dialer{
					LocalAddr:  local,
					MaxRetries: maxRetries,
					OnRetry:    func(context.Context, safedial.Retry) { retries++ },
				}
				conn, err := d.Dial("udp", "127.0.0.1:40000")
				require.Nil(t, conn)
				assertRefused(t, err, "udp")
				assert.Equal(t, want, retries, "MaxRetries %d from %v", maxRetries, local)
				assert.Equal(t, descriptors, nstest.OpenDescriptors(t))
				takeUDPPorts(t, onlyPort, onlyPort)[0].Close()
			}
		}
	})
}

// TestUDPInCrowdedRange dials while one port is left other than the destination's.
func TestUDPInCrowdedRange(t *testing.T) { isolated(t, dialUDPCrowded) }

// TestUDPInCrowdedRangeWithoutPortRange is the same on a kernel before 6.3.
func TestUDPInCrowdedRangeWithoutPortRange(t *testing.T) {
	isolated(t, dialUDPCrowded, unix.IP_LOCAL_PORT_RANGE)
}

func dialUDPCrowded(t *testing.T) {
	setLocalPorts(t, 40000, 40019)
	takeUDPPorts(t, 40001, 40009)
	takeUDPPorts(t, 40011, 40019)
	hasPortRange := !portable && nstest.HasPortRange(t, 0)
	for _, local := range []net.Addr{nil, udp("127.0.0.1", 0), udp("", 0)} {
		for kind, dial := range dialsOf(&safedial.Dialer{LocalAddr: local}) {
			if kind == "NetDialer" && !hasPortRange {
				continue // nobody looks at its UDP connections
			}
			for range 100 {
				conn, err := dial("udp", "127.0.0.1:40010")
				if err == nil {
					require.False(t, safedial.IsSelfConnect(conn), kind)
					conn.Close()
				} else if kind == "Dialer" { // the other may use the other range
					require.NoError(t, err, "%s from %v", kind, local)
				}
			}
		}
	}
}

// TestUDPWaitsForAPort has every port taken, and one freed once a dial has retried.
func TestUDPWaitsForAPort(t *testing.T) { isolated(t, awaitUDPPort) }

// TestUDPWaitsForAPortWithoutPortRange is the same on a kernel before 6.3.
func TestUDPWaitsForAPortWithoutPortRange(t *testing.T) {
	isolated(t, awaitUDPPort, unix.IP_LOCAL_PORT_RANGE)
}

func awaitUDPPort(t *testing.T) {
	setLocalPorts(t, 40000, 40003)
	noneToConnect, noneToBind := os.NewSyscallError(
		"connect",
		syscall.EAGAIN,
	), os.NewSyscallError(
		"bind",
		syscall.EADDRINUSE,
	)
	for name, c := range map[string]struct {
		local   net.Addr
		kind    string
		address string
		want    error
	}{
		"Dialer":                   {nil, "Dialer", "127.0.0.1:9000", noneToConnect},
		"Dialer, inside":           {nil, "Dialer", "127.0.0.1:40001", noneToConnect},
		"Dialer from IP:0":         {udp("127.0.0.1", 0), "Dialer", "127.0.0.1:9000", noneToBind},
		"Dialer from IP:0, inside": {udp("127.0.0.1", 0), "Dialer", "127.0.0.1:40001", noneToBind},
	} {
		if portable && c.kind == "NetDialer" {
			continue // it does not retry
		}
		t.Run(name, func(t *testing.T) {
			taken := takeUDPPorts(t, 40000, 40003)
			sockets := 0
			d := safedial.Dialer{
				LocalAddr:  c.local,
				MaxRetries: -1,
				Control:    onSocket(func(fd int) error { sockets++; return requireNoRange(fd) }),
			}
			_, err := dialsOf(&d)[c.kind]("udp", c.address)
			assert.Equal(t, c.want, nstest.OpError(t, err).Err)
			if !portable && c.address == "127.0.0.1:9000" { // no other range is worth a try
				assert.Equal(t, 1, sockets)
			}

			retries := 0
			d.MaxRetries = 20
			d.Timeout = time.Minute
			d.OnRetry = func(ctx context.Context, r safedial.Retry) {
				_, ends := ctx.Deadline()
				assert.True(t, ends, "the pause ends with the dial")
				retries++
				assert.Equal(t, safedial.Retry{Network: "udp4", Address: c.address, Attempt: retries, Err: c.want}, r)
				if retries == 5 { // after two pauses
					taken[0].Close()
				}
			}
			conn, err := dialsOf(&d)[c.kind]("udp", c.address)
			require.NoError(t, err)
			assert.GreaterOrEqual(t, retries, 5)
			conn.Close()
		})
	}
}

// TestUDPRetryBlamesNoLookup has every port taken once the name is resolved, so that it
// cannot be resolved again.
func TestUDPRetryBlamesNoLookup(t *testing.T) {
	isolated(t, func(t *testing.T) {
		setLocalPorts(t, 50000, 50099) // for the name server's port
		d := safedial.Dialer{Resolver: nstest.Zone{"name.test": {netip.MustParseAddr("127.0.0.1")}}.Resolver(t)}
		setLocalPorts(t, 40000, 40003)
		taken := false
		d.Control = func(string, string, syscall.RawConn) error {
			if !taken {
				takeUDPPorts(t, 40000, 40003)
			}
			taken = true
			return nil
		}
		_, err := d.Dial("udp", "name.test:9000")
		assert.EqualError(t, err, "dial udp 127.0.0.1:9000: connect: resource temporarily unavailable")
	})
}

// TestLookupIsNotRetried has a resolver fail with the errors of a socket that found no
// port.
func TestLookupIsNotRetried(t *testing.T) {
	resolver := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.Join(
			context.DeadlineExceeded,
			os.NewSyscallError("connect", syscall.EAGAIN),
			os.NewSyscallError("connect", syscall.EADDRNOTAVAIL),
		)
	}}
	for _, network := range []string{"tcp", "udp"} {
		_, want := (&net.Dialer{Resolver: resolver}).Dial(network, "name.test:9000")
		_, err := (&safedial.Dialer{Resolver: resolver, OnRetry: notRetried(t)}).Dial(network, "name.test:9000")
		require.Error(t, want)
		assert.EqualError(t, err, want.Error(), "as net.Dialer has it")
	}
}

// TestUDPOtherRangeIsNoRetry has free ports on one side of the destination's alone.
func TestUDPOtherRangeIsNoRetry(t *testing.T) {
	isolated(t, func(t *testing.T) {
		requirePortRange(t, "LocalPorts hold")
		setLocalPorts(t, 40000, 40004)
		for _, isReserved := range []bool{false, true} {
			for _, side := range []safedial.PortRange{ports(40000, 40001), ports(40003, 40004)} {
				var taken []net.PacketConn
				if isReserved {
					setReservedPorts(t, side.String())
				} else {
					taken = takeUDPPorts(t, side.Low, side.High)
				}
				for _, local := range []net.Addr{nil, udp("127.0.0.1", 0)} {
					d := safedial.Dialer{LocalAddr: local, MaxRetries: -1, OnRetry: notRetried(t)}
					for range 50 {
						conn, err := d.Dial("udp", "127.0.0.1:40002")
						require.NoError(t, err, "from %v, %s, reserved %t", local, side, isReserved)
						conn.Close()
					}
				}
				for _, packets := range taken {
					packets.Close()
				}
				setReservedPorts(t, "")
			}
		}
	})
}

// TestUDPGroupsAreNotSelfConnections: neither a port 0, nor a multicast or broadcast
// address, nor "::" is the socket's own, whatever its port.
func TestUDPGroupsAreNotSelfConnections(t *testing.T) {
	isolated(t, func(t *testing.T) {
		ip(t, "route", "add", "default", "dev", "lo")
		for _, address := range []string{"127.0.0.1:0", "224.0.0.1:40000", "255.255.255.255:40000", "[::]:40000"} {
			for _, local := range []net.Addr{nil, udp("", 40000), udp(nstest.OwnAddress, 40000)} {
				conn, want := (&net.Dialer{LocalAddr: local}).Dial("udp", address)
				if want == nil {
					if safedial.IsSelfConnect(conn) {
						want = safedial.ErrSelfConnect
					}
					conn.Close()
				}
				for kind, dial := range dialsOf(&safedial.Dialer{LocalAddr: local}) {
					if kind == "NetDialer" && errors.Is(want, safedial.ErrSelfConnect) {
						continue // nobody checks its UDP connections
					}
					conn, err := dial("udp", address)
					assert.Equal(
						t,
						want == nil,
						err == nil,
						"%s %s from %v: net says %v, safedial %v",
						kind,
						address,
						local,
						want,
						err,
					)
					if err == nil {
						conn.Close()
					}
				}
			}
		}
	})
}

// TestUDPWithoutSourceIsNotRetried: without a source address the dial fails for good.
func TestUDPWithoutSourceIsNotRetried(t *testing.T) {
	skipPortable(t, "the error is the same if no port is left")
	isolated(t, func(t *testing.T) {
		nstest.Sysctl(t, "/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")
		_, want := net.Dial("udp", "[::1]:40000")
		require.Error(t, want)
		for kind, dial := range dialsOf(&safedial.Dialer{MaxRetries: 1000, OnRetry: notRetried(t)}) {
			_, err := dial("udp", "[::1]:40000")
			assert.EqualError(t, err, want.Error(), kind)
		}
	})
}
