//go:build !safedial_portable

package proof

import (
	"errors"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// TestProc dials where /proc cannot be written, and where there is none: dials end as
// net.Dialer's, and none returns a self-connection.
func TestProc(t *testing.T) {
	for name, hide := range map[string]func() error{
		"ReadOnly": func() error {
			const flags = unix.MS_BIND | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
			return errors.Join(
				unix.Mount("/proc", "/proc", "", unix.MS_BIND|unix.MS_REC, ""),
				unix.Mount("", "/proc", "", unix.MS_REMOUNT|unix.MS_RDONLY|flags, ""))
		},
		"NotMounted": func() error { return unix.Mount("none", "/proc", "tmpfs", 0, "") },
	} {
		t.Run(name, func(t *testing.T) {
			nstest.Run(t, func(t *testing.T) {
				setLocalPorts(t, 40000, 40001)
				nstest.Serve(t, "tcp", "127.0.0.1:9000")
				require.NoError(t, hide())
				nstest.AwaitPortsRead()
				_, err := safedial.LocalPortRange()
				require.Equal(t, name == "NotMounted", err != nil, err)
				for _, network := range []string{"tcp", "udp"} {
					for _, address := range []string{"127.0.0.1:9000", "127.0.0.1:9001", "[::1]:9001"} {
						_, want := ended(net.Dial(network, address))
						for kind, dial := range dialsOf(new(safedial.Dialer)) {
							_, err := ended(dial(network, address))
							assert.Equal(t, want, err, "%s %s %s", kind, network, address)
						}
					}
				}
				for range 100 {
					for kind, dial := range dialsOf(new(safedial.Dialer)) {
						isSelf, err := ended(dial("tcp", "127.0.0.1:40000"))
						require.False(t, isSelf, kind)
						require.Contains(t, err, "connection refused", kind)
					}
				}
				server, err := net.Listen("tcp", "127.0.0.1:40000")
				require.NoError(t, err, "the port is blocked")
				server.Close()
			})
		})
	}
}

// ended closes a connection, and returns whether it was connected to itself, and the
// text of the dial's error.
func ended(conn net.Conn, err error) (isSelf bool, text string) {
	if err != nil {
		return false, err.Error()
	}
	defer nstest.Reset(conn)
	return safedial.IsSelfConnect(conn), ""
}
