//go:build !safedial_portable

package proof

import (
	"errors"
	"fmt"
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
		for _, port := range []uint16{40000, 20000} { // in the default range, and not
			t.Run(fmt.Sprintf("%s%d", name, port), func(t *testing.T) {
				nstest.Run(t, func(t *testing.T) { dialHidden(t, port, hide, name == "NotMounted") })
			})
		}
	}
}

func dialHidden(t *testing.T, port uint16, hide func() error, unknown bool) {
	t.Helper()
	setLocalPorts(t, port, port+1)
	nstest.Serve(t, "tcp", "127.0.0.1:9000")
	require.NoError(t, hide())
	nstest.AwaitPortsRead()
	_, err := safedial.LocalPortRange()
	require.Equal(t, unknown, err != nil, err)
	for _, network := range []string{"tcp", "udp"} {
		for _, address := range []string{"127.0.0.1:9000", "127.0.0.1:9001", "[::1]:9001"} {
			_, want := ended(net.Dial(network, address))
			for kind, dial := range dialsOf(new(safedial.Dialer)) {
				_, err := ended(dial(network, address))
				assert.Equal(t, want, err, "%s %s %s", kind, network, address)
			}
		}
	}
	own := fmt.Sprintf("127.0.0.1:%d", port)
	for range 100 {
		for kind, dial := range dialsOf(new(safedial.Dialer)) {
			isSelf, err := ended(dial("tcp", own))
			require.False(t, isSelf, kind)
			require.Contains(t, err, "connection refused", kind)
			isSelf, err = ended(dial("udp", own))
			require.False(t, isSelf, "%s udp", kind)
			require.Empty(t, err, "%s udp", kind)
		}
	}
	server, err := net.Listen("tcp", own)
	require.NoError(t, err, "the port is blocked")
	server.Close()
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
