package nstest

import (
	"encoding/binary"
	"runtime"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// RequirePortRange skips the test on a kernel before 6.3, where the library does not
// make the promise.
func RequirePortRange(t *testing.T, promise string) {
	t.Helper()
	if !HasPortRange(t, 0) {
		t.Skip("the kernel has no IP_LOCAL_PORT_RANGE, without which the library does not promise that " + promise)
	}
}

// HasPortRange reports whether sockets of the protocol, 0 for TCP, take
// IP_LOCAL_PORT_RANGE.
func HasPortRange(t *testing.T, protocol int) bool {
	t.Helper()
	return HasOption(t, protocol, unix.IP_LOCAL_PORT_RANGE)
}

// HasOption reports whether sockets of the protocol, 0 for TCP, take an option of
// IPPROTO_IP.
func HasOption(t *testing.T, protocol, option int) bool {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, protocol)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.SetsockoptInt(fd, unix.SOL_IP, option, 0) == nil
}

// RequireDirectCalls skips the test where Go makes the system calls of sockets
// through socketcall(2), whose arguments neither a filter nor strace can count by.
func RequireDirectCalls(t *testing.T) {
	t.Helper()
	if runtime.GOARCH == "386" || runtime.GOARCH == "s390x" {
		t.Skip("sockets go through socketcall(2) on " + runtime.GOARCH)
	}
}

// WithoutOptions has setsockopt(SOL_IP, …) of the options fail in this process
// from now on as it does on a kernel that lacks them, by a seccomp filter.
func WithoutOptions(t *testing.T, options ...uint32) {
	t.Helper()
	RequireDirectCalls(t)
	n := uint8(len(options))
	filter := []unix.SockFilter{
		load(seccompNumber), unless(unix.SYS_SETSOCKOPT, 2*n+3),
		load(seccompArg(1)), unless(unix.SOL_IP, 2*n+1),
		load(seccompArg(2)),
	}
	for _, option := range options {
		filter = append(filter, unless(option, 1), answer(unix.SECCOMP_RET_ERRNO|uint32(unix.ENOPROTOOPT)))
	}
	install(t, append(filter, answer(unix.SECCOMP_RET_ALLOW)))

	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	for _, option := range options {
		require.ErrorIs(t, unix.SetsockoptInt(fd, unix.SOL_IP, int(option), 0), unix.ENOPROTOOPT, "the filter does not hold")
	}
}

// FailSyscall has the system call fail with errno in this process from now on.
func FailSyscall(t *testing.T, number uint32, errno unix.Errno) {
	t.Helper()
	RequireDirectCalls(t)
	install(t, []unix.SockFilter{
		load(seccompNumber), unless(number, 1),
		answer(unix.SECCOMP_RET_ERRNO | uint32(errno)),
		answer(unix.SECCOMP_RET_ALLOW),
	})
}

// FailSyscallUnless is FailSyscall, but for calls whose argument arg is value: so a test
// can make the call where the library cannot.
func FailSyscallUnless(t *testing.T, number uint32, errno unix.Errno, arg, value uint32) {
	t.Helper()
	RequireDirectCalls(t)
	install(t, []unix.SockFilter{
		load(seccompNumber), unless(number, 4),
		load(seccompArg(arg)), unless(value, 1),
		answer(unix.SECCOMP_RET_ALLOW),
		answer(unix.SECCOMP_RET_ERRNO | uint32(errno)),
		answer(unix.SECCOMP_RET_ALLOW),
	})
}

const seccompNumber = 0 // offsetof(struct seccomp_data, nr)

// seccompArg returns the offset of the low half of an argument in struct
// seccomp_data.
func seccompArg(i uint32) uint32 {
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		return 16 + 8*i + 4
	}
	return 16 + 8*i
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

// unless skips the next instructions of the filter if what was loaded is not value.
func unless(value uint32, skip uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jf: skip}
}

func answer(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}

// install puts every thread of this process under the filter.
func install(t *testing.T, filter []unix.SockFilter) {
	t.Helper()
	require.NoError(t, unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(
		unix.SYS_SECCOMP,
		unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&prog)),
	)
	require.Zero(t, errno, "seccomp")
}
