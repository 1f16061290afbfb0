package proof

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/netns"
	"github.com/safedial/safedial/internal/nstest"
)

// An environment is what the library may do and know.
type environment struct {
	name     string
	enter    func(w *world)           // changes the process, or this thread of it
	around   func(w *world, f func()) // runs f, a dial
	noOption bool                     // sockets do not take IP_LOCAL_PORT_RANGE
	unknown  bool                     // the library may not know the local port range
	stale    bool                     // it knows that of another network namespace
	noNet    bool                     // net.Dialer waits for ever
	noLinger bool                     // a socket cannot be closed with a reset
	looks    bool                     // it cannot check sockets
	errno    unix.Errno               // of what is refused
}

var environments = []environment{
	{name: "plain"},
	{name: "without IP_LOCAL_PORT_RANGE", noOption: true, enter: func(w *world) {
		nstest.WithoutOptions(w.t, unix.IP_LOCAL_PORT_RANGE)
	}},
	{name: "bind and IP_LOCAL_PORT_RANGE refused", noOption: true, errno: unix.EACCES, enter: func(w *world) {
		nstest.WithoutOptions(w.t, unix.IP_LOCAL_PORT_RANGE)
		refuse(unix.SYS_BIND, 2)(w)
	}},
	{
		name: "setsockopt refused", noOption: true, noLinger: true, errno: unix.EACCES,
		enter: refuse(unix.SYS_SETSOCKOPT, 4),
	},
	{name: "getsockname refused", looks: true, errno: unix.EACCES, enter: func(w *world) {
		nstest.FailSyscall(w.t, unix.SYS_GETSOCKNAME, unix.EACCES)
	}},
	{name: "getpeername refused", noNet: true, looks: true, errno: unix.EACCES, enter: func(w *world) {
		nstest.FailSyscall(w.t, unix.SYS_GETPEERNAME, unix.EACCES)
	}},
	{name: "proc hidden", unknown: true, enter: func(w *world) {
		require.NoError(w.t, unix.Mount("none", "/proc/sys", "tmpfs", 0, ""))
	}},
	{name: "Landlock", unknown: true, enter: landlock},
	{name: "few descriptors", unknown: true, errno: unix.EMFILE, around: withFewDescriptors},
	{name: "two namespaces", stale: true, around: fromElsewhere},
}

// refuse has a system call fail, unless the argument says that a bare socket makes it.
func refuse(number, argument uint32) func(*world) {
	return func(w *world) { nstest.FailSyscallUnless(w.t, number, unix.EACCES, argument, long) }
}

// withFewDescriptors runs f while one, two or three more files can be opened.
func withFewDescriptors(w *world, f func()) {
	w.t.Helper()
	var limit unix.Rlimit
	require.NoError(w.t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	open, err := os.ReadDir("/proc/self/fd")
	require.NoError(w.t, err)
	few := unix.Rlimit{Max: limit.Max}
	for free := 1 + rand.IntN(3); free > 0; few.Cur++ {
		if !slices.ContainsFunc(open, func(e os.DirEntry) bool { return e.Name() == fmt.Sprint(few.Cur) }) {
			free--
		}
	}
	require.NoError(w.t, unix.Setrlimit(unix.RLIMIT_NOFILE, &few))
	f()
	require.NoError(w.t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
}

// fromElsewhere runs f after the library has read the ports of the other namespace.
func fromElsewhere(w *world, f func()) {
	w.visit(func() {
		d := safedial.Dialer{LocalPorts: ports(1, 1)} // for which it reads them anew
		_, _ = d.Dial("tcp", "127.0.0.1:9")
	})
	f()
}

// landlock keeps this thread from reading files of /proc.
func landlock(w *world) {
	w.t.Helper()
	const read = unix.LANDLOCK_ACCESS_FS_READ_FILE
	attr := uint64(read) // the first field of struct landlock_ruleset_attr
	rules, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET,
		uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		w.t.Skipf("the kernel has no Landlock: %v", errno)
	}
	defer unix.Close(int(rules))
	entries, err := os.ReadDir("/")
	require.NoError(w.t, err)
	for _, e := range entries {
		fd, err := unix.Open("/"+e.Name(), unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil || e.Name() == "proc" {
			continue
		}
		rule := struct { // landlock_path_beneath_attr
			access uint64
			parent int32
		}{read, int32(fd)}
		_, _, errno = unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE,
			rules, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
		require.Zero(w.t, errno, e.Name())
		unix.Close(fd)
	}
	require.NoError(w.t, unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	_, _, errno = unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, rules, 0, 0)
	require.Zero(w.t, errno)
	_, err = safedial.LocalPortRange()
	require.ErrorIs(w.t, err, os.ErrPermission)
}

// newNamespace makes a network namespace whose local ports are others.
func (w *world) newNamespace() *os.File {
	w.t.Helper()
	var namespace *os.File
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread ends
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = errors.Join(netns.RaiseLoopback(), netns.SetLocalPorts(50000, 50009))
		}
		if err == nil {
			namespace, err = os.Open("/proc/thread-self/ns/net")
		}
		result <- err
	}()
	require.NoError(w.t, <-result)
	w.t.Cleanup(func() { namespace.Close() })
	return namespace
}

// visit runs f while the thread is in the other network namespace.
func (w *world) visit(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Setns(int(w.elsewhere.Fd()), unix.CLONE_NEWNET)
	f()
	_ = unix.Setns(int(w.home.Fd()), unix.CLONE_NEWNET)
}
