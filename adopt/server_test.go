package adopt

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial/internal/nstest"
)

// folders has where Debian puts servers, beside the PATH.
var folders = []string{"/usr/sbin", "/usr/lib/postgresql/*/bin", "/usr/lib/rabbitmq/bin", "/usr/share/zookeeper/bin"}

// find returns the path of the trip's program. Without it, the test skips, or fails
// with SAFEDIAL_REQUIRE_SERVERS=1.
func (tr trip) find(t *testing.T) string {
	t.Helper()
	if path := lookup(tr.program); path != "" {
		return path
	}
	reason := fmt.Sprintf("%s is not installed: install the package %s", tr.program, tr.debian)
	record(t, result{tr.library, tr.server, "skipped", reason})
	if os.Getenv("SAFEDIAL_REQUIRE_SERVERS") == "1" {
		t.Fatal(reason)
	}
	t.Skip(reason)
	return ""
}

func lookup(program string) string {
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	for _, folder := range folders {
		if found, _ := filepath.Glob(filepath.Join(folder, program)); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	return ""
}

// A process is a server that a test starts for itself.
type process struct {
	dir string   // its folder
	env []string // beside the test's
}

// command makes a command. It has no rights but those over the test's files, and not
// root's number, with which some servers refuse to run.
// What it writes goes to a file, even if it writes to its standard input, as vsftpd.
func (p process) command(t *testing.T, program string, args ...string) (*exec.Cmd, *os.File) {
	t.Helper()
	output, err := os.CreateTemp(p.dir, "output")
	require.NoError(t, err)
	t.Cleanup(func() { _ = output.Close() })
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), lookup(program), args...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), slices.Concat([]string{"HOME=" + p.dir, "LC_ALL=C"}, p.env)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:     true,
		Pdeathsig:   syscall.SIGKILL,
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: os.Getgid(), Size: 1}},
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = output, output, output
	return cmd, output
}

// text returns what a command wrote.
func text(t *testing.T, output *os.File) string {
	t.Helper()
	text, err := os.ReadFile(output.Name())
	require.NoError(t, err)
	return string(text)
}

// run runs a command to its end.
func (p process) run(t *testing.T, program string, args ...string) {
	t.Helper()
	cmd, output := p.command(t, program, args...)
	if err := cmd.Run(); err != nil {
		require.NoError(t, err, text(t, output))
	}
}

// start starts the server and waits until it listens. If it ends before that, the
// error has what it wrote.
func (p process) start(t *testing.T, address, program string, args ...string) error {
	t.Helper()
	cmd, output := p.command(t, program, args...)
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); {
		if listening(t, address) {
			return nil
		}
		select {
		case err := <-ended:
			return fmt.Errorf("%s has ended: %w: %s", program, err, text(t, output))
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s does not listen", program)
}

// listening reports whether somebody listens on the port, without a connection.
func listening(t *testing.T, address string) bool {
	t.Helper()
	addr, err := net.ResolveTCPAddr("tcp", address)
	require.NoError(t, err)
	return slices.ContainsFunc(nstest.SocketsOn(t, uint16(addr.Port)), func(line string) bool {
		return strings.Fields(line)[3] == "0A" // TCP_LISTEN
	})
}

// port returns the port of an address.
func port(t *testing.T, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	return port
}

// write writes a configuration file and returns its name.
func (p process) write(t *testing.T, name, format string, args ...any) string {
	t.Helper()
	path := filepath.Join(p.dir, name)
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600))
	return path
}
