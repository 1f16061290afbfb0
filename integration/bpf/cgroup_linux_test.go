package bpf

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/netns"
	"github.com/safedial/safedial/internal/nstest"
)

const (
	// cgroupEnv names, in the re-executed test binary, the test to run.
	cgroupEnv = "SAFEDIAL_CGROUP_TEST"
	// ownCgroup is the control group of the test, in the re-executed test binary.
	ownCgroup = "/proc/self/fd/3"
)

// inCgroup runs body in a child process with a control group and a network namespace of its
// own. The child keeps the user namespace, because to load a BPF program takes rights that a
// user namespace does not give.
func inCgroup(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	if os.Getenv(cgroupEnv) == t.Name() {
		require.NoError(t, netns.RaiseLoopback())
		body(t)
		return
	}
	group := newCgroup(t)
	args := []string{"-test.run=^" + regexp.QuoteMeta(t.Name()) + "$", "-test.v", "-test.count=1"}
	if deadline, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+time.Until(deadline).String())
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), cgroupEnv+"="+t.Name())
	cmd.ExtraFiles = []*os.File{group}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNET,
		UseCgroupFD: true,
		CgroupFD:    int(group.Fd()),
		Pdeathsig:   syscall.SIGKILL,
	}
	output := new(strings.Builder)
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		nstest.Refused(t, fmt.Sprintf("no control group of its own for the test: %v", err))
	}
	err := cmd.Wait()
	require.NoError(t, err, "in the control group:\n%s", output)
	if strings.Contains(output.String(), "--- SKIP: "+t.Name()+" ") {
		t.Skip(output)
	}
	require.Contains(t, output.String(), "--- PASS: "+t.Name()+" ",
		"the test did not run in the control group")
	t.Log(output)
}

// newCgroup makes a control group, which is removed when the test ends. It mounts cgroup2 for
// the test alone, in no folder.
func newCgroup(t *testing.T) *os.File {
	t.Helper()
	root, err := mountCgroup2()
	if err != nil {
		nstest.Refused(t, fmt.Sprintf("no cgroup2 for the test: %v", err))
	}
	t.Cleanup(func() { _ = unix.Close(root) })
	name := fmt.Sprintf("safedial-%s-%d", t.Name(), os.Getpid())
	if err := unix.Mkdirat(root, name, 0o755); err != nil {
		nstest.Refused(t, fmt.Sprintf("no control group of its own for the test: %v", err))
	}
	t.Cleanup(func() {
		// The kernel may not have taken the child out of it yet.
		require.Eventually(t, func() bool {
			return unix.Unlinkat(root, name, unix.AT_REMOVEDIR) == nil
		}, 5*time.Second, 10*time.Millisecond, "the control group is not removed")
	})
	fd, err := unix.Openat(root, name, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	group := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { _ = group.Close() })
	return group
}

func mountCgroup2() (root int, err error) {
	fd, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return 0, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fd)
	if err := unix.FsconfigCreate(fd); err != nil {
		return 0, os.NewSyscallError("fsconfig", err)
	}
	root, err = unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, 0)
	return root, os.NewSyscallError("fsmount", err)
}
