package proof

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// TestHookOptionAcceptedOnce has a hook set an option that the kernel accepts once for each
// socket, while every local port is taken: the error is net's, and not that of a second
// call of the hook on the same socket.
func TestHookOptionAcceptedOnce(t *testing.T) {
	eachOnceHook(t, func(t *testing.T, network string, local net.Addr, hook controlFunc) {
		takeAll(t, network)
		ofNet := net.Dialer{LocalAddr: local, Control: hook}
		if network == "tcp" && !portable {
			ofNet.LocalAddr = nil // from which net takes the port when it binds, and safedial when it connects
		}
		_, want := ofNet.Dial(network, "127.0.0.1:9000")
		require.True(t, noPort(want), "net.Dialer: %v", want)
		for _, maxRetries := range []int{0, -1, 5} {
			d := &safedial.Dialer{LocalAddr: local, Control: hook, MaxRetries: maxRetries}
			for kind, dial := range dialsOf(d) {
				_, err := dial(network, "127.0.0.1:9000")
				cause := nstest.OpError(t, want).Err.Error()
				assert.EqualError(t, nstest.OpError(t, err).Err, cause, "%s, MaxRetries %d", kind, maxRetries)
			}
		}
	})
}

// TestHookOptionAcceptedOnceWaits is the same with a large MaxRetries: the dial waits for a
// port, and connects once there is one.
func TestHookOptionAcceptedOnceWaits(t *testing.T) {
	eachOnceHook(t, func(t *testing.T, network string, local net.Addr, hook controlFunc) {
		for _, kind := range []string{"Dialer", "NetDialer"} {
			if kind == "NetDialer" && (portable || network == "udp") {
				continue // it does not wait
			}
			taken := takeAll(t, network)
			retries := 0
			ctx, cancel := context.WithCancel(t.Context())
			d := safedial.Dialer{LocalAddr: local, Control: hook, MaxRetries: 1000}
			d.OnRetry = func(context.Context, safedial.Retry) {
				switch retries++; retries {
				case 5: // after two pauses
					taken[0]()
				case 15: // too late
					cancel()
				}
			}
			dial := d.DialContext
			if kind == "NetDialer" {
				dial = d.NetDialer().DialContext
			}
			conn, err := dial(ctx, network, "127.0.0.1:9000")
			cancel()
			if assert.NoError(t, err, "%s after %d retries", kind, retries) {
				assert.GreaterOrEqual(t, retries, 5, kind)
				nstest.Reset(conn)
			}
			for _, release := range taken {
				release()
			}
		}
	})
}

// TestHookOptionAcceptedOnceAfterUndo is the same in a range of one port, where a dial
// connects to itself: the hook must be called again, because undoing a connection loses
// options, and the dial goes on with another socket.
func TestHookOptionAcceptedOnceAfterUndo(t *testing.T) {
	isolated(t, func(t *testing.T) {
		dropNetRaw(t)
		for _, hook := range onceHooks {
			if hook.network == "udp" {
				continue
			}
			for _, local := range []net.Addr{nil, tcp("127.0.0.1", 0)} {
				setLocalPorts(t, onlyPort, onlyPort)
				d := safedial.Dialer{LocalAddr: local, Control: hook.control}
				_, err := d.Dial("tcp", "127.0.0.1:40000")
				assert.ErrorIs(t, err, safedial.ErrSelfConnect, "%s from %v", hook.name, local)
				nstest.RequireFree(t, onlyPort)

				var server net.Listener
				d.OnRetry = func(context.Context, safedial.Retry) {
					if server == nil {
						setLocalPorts(t, onlyPort, onlyPort+1)
						server = nstest.Serve(t, "tcp", "127.0.0.1:40000")
					}
				}
				conn, err := d.Dial("tcp", "127.0.0.1:40000")
				if assert.NoError(t, err, "%s from %v, with a server", hook.name, local) {
					nstest.AssertReal(t, conn)
				}
				if server != nil {
					server.Close()
				}
			}
		}
	}, unix.IP_LOCAL_PORT_RANGE) // so that the kernel chooses the destination's port
}

// onceHooks set an option that a socket accepts once. Those of UDP set one that TCP has
// not.
var onceHooks = []struct {
	name, network string
	control       controlFunc
}{
	{"SO_BINDTODEVICE without CAP_NET_RAW", "", onSocket(func(fd int) error {
		return unix.BindToDevice(fd, "lo")
	})},
	{"SO_LOCK_FILTER", "", onSocket(lockFilter)},
	{"IP_ADD_MEMBERSHIP", "udp", onSocket(func(fd int) error {
		group := unix.IPMreqn{Multiaddr: [4]byte{224, 0, 0, 7}, Ifindex: 1}
		return unix.SetsockoptIPMreqn(fd, unix.SOL_IP, unix.IP_ADD_MEMBERSHIP, &group)
	})},
}

// eachOnceHook runs body for each of onceHooks, from any address and from one.
func eachOnceHook(t *testing.T, body func(t *testing.T, network string, local net.Addr, control controlFunc)) {
	t.Helper()
	isolated(t, func(t *testing.T) {
		setLocalPorts(t, 40000, 40003)
		nstest.Echo(t, "127.0.0.1:9000")
		for _, hook := range onceHooks {
			for _, local := range []net.Addr{nil, tcp("127.0.0.1", 0), udp("127.0.0.1", 0)} {
				for _, network := range []string{"tcp", "udp"} {
					if local != nil && local.Network() != network || hook.network != "" && hook.network != network {
						continue
					}
					t.Run(fmt.Sprintf("%s on %s from %v", hook.name, network, local), func(t *testing.T) {
						dropNetRaw(t)
						body(t, network, local, hook.control)
					})
				}
			}
		}
	})
}

// lockFilter attaches a filter that lets everything pass, and locks it.
func lockFilter(fd int) error {
	pass := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 16}}
	prog := unix.SockFprog{Len: 1, Filter: &pass[0]}
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog)
	return errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_LOCK_FILTER, 1))
}

// dropNetRaw takes CAP_NET_RAW from the thread of the test, until the test ends.
func dropNetRaw(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var before [2]unix.CapUserData
	require.NoError(t, unix.Capget(&header, &before[0]))
	without := before
	without[0].Effective &^= 1 << unix.CAP_NET_RAW
	require.NoError(t, unix.Capset(&header, &without[0]))
	t.Cleanup(func() {
		assert.NoError(t, unix.Capset(&header, &before[0]))
		runtime.UnlockOSThread()
	})
}

// takeAll takes the ports from 40000 to 40003, for TCP towards 127.0.0.1:9000, until the
// functions that it returns are called, one for each port.
func takeAll(t *testing.T, network string) (release []func()) {
	t.Helper()
	if network == "udp" {
		for _, packets := range takeUDPPorts(t, 40000, 40003) {
			release = append(release, func() { packets.Close() })
		}
		return release
	}
	for range 4 {
		conn, err := net.Dial("tcp", "127.0.0.1:9000")
		require.NoError(t, err)
		t.Cleanup(func() { nstest.Reset(conn) })
		release = append(release, func() { nstest.Reset(conn) })
	}
	return release
}
