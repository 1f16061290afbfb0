package clients

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial/internal/nstest"
)

// A server is what a client makes a round trip with.
type server struct {
	name    string // in the page
	program string // what the server needs, if it is a program
	debian  string // the package that has the program

	// start starts the server until the test ends. It returns the error if the server
	// cannot listen.
	start func(t *testing.T, address string) error
}

// require skips the test if the server's program is missing. It fails the test instead if
// SAFEDIAL_REQUIRE_SERVERS=1.
func (s server) require(t *testing.T) {
	t.Helper()
	if s.program == "" || lookup(s.program) != "" {
		return
	}
	reason := fmt.Sprintf("%s is not installed: install the package %s", s.program, s.debian)
	if os.Getenv("SAFEDIAL_REQUIRE_SERVERS") == "1" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// lookup returns the path of a program, in the PATH or where Debian puts servers.
func lookup(program string) string {
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	for _, folder := range []string{
		"/usr/sbin", "/usr/lib/postgresql/*/bin", "/usr/lib/rabbitmq/bin",
		"/usr/share/zookeeper/bin",
	} {
		if found, _ := filepath.Glob(filepath.Join(folder, program)); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	return ""
}

// A process is a server that a test starts for itself.
type process struct {
	dir string   // its folder
	env []string // its environment, beside the test's
}

func newProcess(t *testing.T) process {
	t.Helper()
	return process{dir: t.TempDir()}
}

// write writes a configuration file and returns its name.
func (p process) write(t *testing.T, name, format string, args ...any) string {
	t.Helper()
	path := filepath.Join(p.dir, name)
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600))
	return path
}

// run runs a command to its end.
func (p process) run(t *testing.T, program string, args ...string) {
	t.Helper()
	cmd, output := p.command(t, program, args...)
	if err := cmd.Run(); err != nil {
		require.NoError(t, err, text(t, output))
	}
}

// start starts the server and waits until it listens. If it ends before that, the error
// has its output.
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

// command makes a command that has rights over the test's files only, and another user
// than root, as whom some servers refuse to run. Its output goes to a file; vsftpd writes to
// its standard input too.
func (p process) command(t *testing.T, program string, args ...string) (*exec.Cmd, *os.File) {
	t.Helper()
	output, err := os.CreateTemp(p.dir, "output")
	require.NoError(t, err)
	t.Cleanup(func() { _ = output.Close() })
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), lookup(program), args...)
	cmd.Dir = p.dir
	cmd.Env = slices.Concat(os.Environ(), []string{"HOME=" + p.dir, "LC_ALL=C"}, p.env)
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

// listening reports whether a socket listens on the port, without a connection.
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

// listen listens until the test ends.
func listen(t *testing.T, address string, run func(net.Listener)) error {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	t.Cleanup(func() { _ = l.Close() })
	go run(l)
	return nil
}

// serve has each connection handled until the test ends.
func serve(t *testing.T, address string, handle func(net.Conn)) error {
	t.Helper()
	return listen(t, address, func(l net.Listener) {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go handle(conn)
		}
	})
}

// expect reads the text from the connection, and closes it.
func expect(conn net.Conn, text string) error {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	got, err := io.ReadAll(conn)
	if err == nil && string(got) != text {
		err = errors.New("another answer: " + string(got))
	}
	return err
}

// exampleCertificate returns a certificate for example.com, and a pool that trusts it.
var exampleCertificate = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return s.TLS.Certificates[0], pool
})

// exampleTLS returns what a client needs to trust example.com.
func exampleTLS() *tls.Config {
	_, pool := exampleCertificate()
	return &tls.Config{RootCAs: pool, ServerName: "example.com"}
}
