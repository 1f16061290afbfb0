// Package nstest runs tests in a user, a network and a mount namespace of their own,
// where the local port range can be as narrow as a test wants and names resolve in
// the same way on every machine, and simulates kernels that lack a feature.
package nstest

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/netns"
)

const (
	// namespaceEnv names, in the re-executed test binary, the test to run.
	namespaceEnv = "SAFEDIAL_NAMESPACE_TEST"
	// requireEnv turns the skip, where namespaces are Refused, into a failure.
	requireEnv = "SAFEDIAL_REQUIRE_NETNS"
	// sysctlEnv is NAME=VALUE of a sysctl to write in each namespace, where the kernel has it.
	sysctlEnv = "SAFEDIAL_SYSCTL"

	// OwnAddress is an address of the namespace that is not a loopback one.
	OwnAddress = "10.77.0.1"
)

// Hosts files: localhost as CI has it, and with both families, as Debian has it.
const (
	IPv4Localhost = "127.0.0.1 localhost\n"
	DualLocalhost = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
)

// Run runs body in a child process with namespaces of its own, where the local port
// range can be as narrow as the test wants. There localhost is 127.0.0.1 alone.
func Run(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	if os.Getenv(namespaceEnv) == t.Name() {
		raiseLoopback(t)
		cover(t, "/etc/hosts", IPv4Localhost)
		cover(t, "/etc/resolv.conf", "")
		cover(t, "/etc/nsswitch.conf", "hosts: files dns\n")
		callersSysctl(t)
		askForIPv6(t)
		body(t)
		return
	}
	args := []string{
		"-test.run=^" + strings.ReplaceAll(regexp.QuoteMeta(t.Name()), "/", "$/^") + "$",
		"-test.v",
		"-test.count=1",
	}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	if deadline, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+time.Until(deadline).String())
	}
	flag.Visit(func(f *flag.Flag) {
		if !strings.HasPrefix(f.Name, "test.") {
			args = append(args, "-"+f.Name+"="+f.Value.String())
		}
	})
	cmd := netns.Command(t.Context(), args...)
	cmd.Env = append(os.Environ(), namespaceEnv+"="+t.Name())
	output := new(strings.Builder)
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		Refused(t, fmt.Sprintf("no namespace of its own for the test: %v", err))
	}
	err := cmd.Wait()
	require.NoError(t, err, "in the namespace:\n%s", output)
	if strings.Contains(output.String(), "--- SKIP: "+t.Name()+" ") {
		t.Skip(output)
	}
	require.Contains(t, output.String(), "--- PASS: "+t.Name()+" ", "the test did not run in the namespace")
	t.Log(output)
}

// Refused skips the test because the platform refuses what it needs.
func Refused(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv(requireEnv) == "1" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// Program returns the path of a program, and skips the test where there is none.
func Program(t *testing.T, name, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Refused(t, fmt.Sprintf("%v: install the package %s", err, debianPackage))
	}
	return path
}

// raiseLoopback brings lo up, with a second address. Where a user namespace gives
// no rights over its network, the test is refused.
func raiseLoopback(t *testing.T) {
	t.Helper()
	err := netns.RaiseLoopback()
	if errors.Is(err, os.ErrPermission) {
		Refused(t, fmt.Sprintf("no rights over the network of the namespace: %v", err))
	}
	require.NoError(t, err)
	require.NoError(t, netns.AddAddress("lo:1", OwnAddress))
}

// Hosts writes the namespace's hosts file. net may remember another one if it has
// looked a name up.
func Hosts(t *testing.T, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile("/etc/hosts", []byte(text), 0))
}

// cover has a file of the machine have that text in the namespace. Without the file
// net falls back to what the texts say, but for the hosts.
func cover(t *testing.T, file, text string) {
	t.Helper()
	err := netns.Cover(file, text)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) && file == "/etc/hosts" {
		Refused(t, fmt.Sprintf("no hosts file of its own for the test: %v", err))
	}
	if !errors.Is(err, os.ErrNotExist) {
		require.NoError(t, err)
	}
}

// askForIPv6 has package net find out what the host has. It does so once, by binding a
// port, and would find no IPv6 if no port is free at the time.
func askForIPv6(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
}

// callersSysctl writes the sysctl that the caller of the tests names.
func callersSysctl(t *testing.T) {
	t.Helper()
	name, value, ok := strings.Cut(os.Getenv(sysctlEnv), "=")
	if _, err := os.Stat("/proc/sys/" + name); ok && err == nil {
		Sysctl(t, "/proc/sys/"+name, value)
	}
}

// Sysctl writes value to a file of /proc/sys.
func Sysctl(t *testing.T, file, value string) {
	t.Helper()
	orRefused(t, os.WriteFile(file, []byte(value), 0))
}

// orRefused requires that a sysctl was written, or that the platform refuses it.
func orRefused(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EROFS) {
		Refused(t, err.Error())
	}
	require.NoError(t, err)
}

// HasIPv6 reports whether the kernel makes IPv6 sockets: with ipv6.disable=1 on its
// command line it does not.
func HasIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return !errors.Is(err, unix.EAFNOSUPPORT)
}

// SocketsOn returns the lines of the thread's /proc/net/tcp and tcp6 whose local port is
// port, in any state: a bound socket that neither listens nor connects is not there.
func SocketsOn(t *testing.T, port uint16) []string {
	t.Helper()
	var lines []string
	for _, file := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) && !HasIPv6() {
			continue
		}
		require.NoError(t, err)
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if _, hex, ok := strings.Cut(fields[1], ":"); ok {
				if p, err := strconv.ParseUint(hex, 16, 16); err == nil && uint16(p) == port {
					lines = append(lines, line)
				}
			}
		}
	}
	return lines
}

// RequireFree requires that a server can listen on the port in both families,
// even one without SO_REUSEADDR: no socket has the port in any state.
func RequireFree(t *testing.T, port uint16, msg ...any) {
	t.Helper()
	family, anywhere := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(port)})
	if !HasIPv6() {
		family, anywhere = unix.AF_INET, &unix.SockaddrInet4{Port: int(port)}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	if err := unix.Bind(fd, anywhere); err != nil {
		t.Logf("sockets on port %d: %q", port, SocketsOn(t, port))
		require.NoError(t, err, msg...)
	}
	require.NoError(t, unix.Listen(fd, 1), msg...)
}
