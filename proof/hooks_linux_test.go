package proof

import (
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// TestHooksOfAllKinds has hooks do what nobody expects of them, and compares the
// outcome with net.Dialer's.
func TestHooksOfAllKinds(t *testing.T) {
	skipPortable(t, "a retry follows net's own")
	nstest.Run(t, func(t *testing.T) {
		setLocalPorts(t, ports(40000, 40003))
		l := nstest.Echo(t, "127.0.0.1:9000")
		sock := func(f func(fd int) error) func(string, string, syscall.RawConn) error {
			return func(_, _ string, c syscall.RawConn) error { return nstest.OnSocket(c, f) }
		}
		option := func(level, name, value int) func(string, string, syscall.RawConn) error {
			return sock(func(fd int) error { return unix.SetsockoptInt(fd, level, name, value) })
		}
		for name, control := range map[string]func(string, string, syscall.RawConn) error{
			"TCP_FASTOPEN_CONNECT": option(unix.SOL_TCP, unix.TCP_FASTOPEN_CONNECT, 1),
			"SO_MARK":              option(unix.SOL_SOCKET, unix.SO_MARK, 7),
			"IP_FREEBIND":          option(unix.SOL_IP, unix.IP_FREEBIND, 1),
			"SO_REUSEPORT":         option(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
			"TCP_SYNCNT":           option(unix.SOL_TCP, unix.TCP_SYNCNT, 1),
			"a device":             sock(func(fd int) error { return unix.BindToDevice(fd, "lo") }),
			"blocking":             sock(func(fd int) error { return unix.SetNonblock(fd, false) }),
			"an error ignored": sock(func(fd int) error {
				_ = unix.Bind(fd, &unix.SockaddrInet4{Port: 40002, Addr: [4]byte{127, 0, 0, 1}})
				return nil
			}),
			"a dial of its own": func(string, string, syscall.RawConn) error {
				conn, err := safedial.Dial("tcp", l.Addr().String())
				if err == nil {
					nstest.Reset(conn)
				}
				return err
			},
		} {
			for _, address := range []string{"127.0.0.1:9000", "127.0.0.1:40002", "127.0.0.1:9", "[::1]:40002"} {
				conn, want := (&net.Dialer{Control: control, Timeout: 5 * time.Second}).Dial("tcp", address)
				if want == nil && safedial.IsSelfConnect(conn) {
					want = fmt.Errorf("dial tcp %s: %w", address, safedial.ErrSelfConnect) // net has given up
				}
				if conn != nil {
					nstest.Reset(conn)
				}
				for kind, dial := range dialsOf(&safedial.Dialer{Control: control, Timeout: 5 * time.Second}) {
					conn, err := dial("tcp", address)
					assert.Equal(t, fmt.Sprint(want), fmt.Sprint(err), "%s %s, %s", kind, address, name)
					if conn != nil {
						assert.False(t, safedial.IsSelfConnect(conn), "%s %s, %s", kind, address, name)
						nstest.Reset(conn)
					}
				}
			}
		}
	})
}
