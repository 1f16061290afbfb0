package integration

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial"
)

// localPort returns a port that nobody has, of those that the kernel picks local
// ports from.
func localPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return port
}

// find returns a program of the PATH or of one of the folders, and skips the test
// where there is none; SAFEDIAL_REQUIRE_SERVERS=1 has it fail instead.
func find(t *testing.T, name string, folders ...string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, folder := range folders {
		if found, _ := filepath.Glob(filepath.Join(folder, name)); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	if os.Getenv("SAFEDIAL_REQUIRE_SERVERS") == "1" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// A server is a program that a test starts for itself.
type server struct {
	dir        string
	credential *syscall.Credential
}

// newServer makes a folder for a server's data. If the test is root, both belong
// to another user, because PostgreSQL refuses to run as root.
func newServer(t *testing.T) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "safedial")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &server{dir: dir}
	if os.Getuid() != 0 {
		return s
	}
	nobody, err := user.Lookup("nobody")
	require.NoError(t, err)
	uid, err := strconv.Atoi(nobody.Uid)
	require.NoError(t, err)
	gid, err := strconv.Atoi(nobody.Gid)
	require.NoError(t, err)
	require.NoError(t, os.Chown(dir, uid, gid))
	s.credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return s
}

func (s *server) command(ctx context.Context, name string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "HOME="+s.dir, "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.credential}
	output := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = output, output
	return cmd, output
}

func (s *server) run(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd, output := s.command(t.Context(), name, args...)
	require.NoError(t, cmd.Run(), "%s: %s", name, output)
}

// start starts the server and waits, by safedial, until it listens. It is
// interrupted when the test ends.
func (s *server) start(t *testing.T, address, name string, args ...string) {
	t.Helper()
	cmd, output := s.command(context.Background(), name, args...)
	require.NoError(t, cmd.Start())
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case <-exited:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
		}
	})
	for deadline := time.Now().Add(30 * time.Second); ; {
		conn, err := safedial.DialTimeout("tcp", address, time.Second)
		if err == nil {
			conn.Close()
			return
		}
		require.True(t, time.Now().Before(deadline), "%s does not start: %v: %s", name, err, output)
		select {
		case err := <-exited:
			exited <- err
			t.Fatalf("%s has ended: %v: %s", name, err, output)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
