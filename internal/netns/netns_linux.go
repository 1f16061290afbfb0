// Package netns makes network namespaces to test and to measure in. None needs
// root where the system allows user namespaces.
package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

const localPortRangeFile = "/proc/sys/net/ipv4/ip_local_port_range"

// Command returns a command that runs this program again in a user, a network and a
// mount namespace of its own, and that dies with this one.
func Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	return cmd
}

// RaiseLoopback brings lo up. Where a user namespace gives no rights over its
// network (AppArmor can see to that) the error matches os.ErrPermission.
func RaiseLoopback() error {
	// A new namespace may inherit that IPv6 is off.
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("0"), 0)
	return raise("lo")
}

// AddAddress gives the interface an IPv4 address, with the netmask of its class.
func AddAddress(name, address string) error {
	return onInterface(name, func(fd int, ifr *unix.Ifreq) error {
		if err := ifr.SetInet4Addr(net.ParseIP(address).To4()); err != nil {
			return err
		}
		return unix.IoctlIfreq(fd, unix.SIOCSIFADDR, ifr)
	})
}

// Cover has the file have that text in the mount namespace of the process, and
// nowhere else. There must be such a file.
func Cover(file, text string) error {
	// What is mounted here must not reach the namespace that this one came from.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	cover, err := os.CreateTemp("", "safedial")
	if err != nil {
		return err
	}
	defer os.Remove(cover.Name()) // the mount keeps it
	defer cover.Close()
	if _, err := cover.WriteString(text); err != nil {
		return err
	}
	if err := unix.Mount(cover.Name(), file, "", unix.MS_BIND, ""); err != nil {
		return &os.PathError{Op: "mount", Path: file, Err: err}
	}
	return nil
}

// SetLocalPorts sets the local port range of the namespace.
func SetLocalPorts(low, high uint16) error {
	return os.WriteFile(localPortRangeFile, fmt.Appendf(nil, "%d %d", low, high), 0)
}

// Elsewhere runs f in another new network namespace, to which a veth pair leads
// from the one of the process, with the two addresses. The sockets that f makes
// keep that namespace alive.
func Elsewhere(here, there string, f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // not unlocked, in case that it cannot return
		result <- elsewhere(here, there, f)
	}()
	return <-result
}

func elsewhere(here, there string, f func() error) (err error) {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	// The process's first thread does not end with its goroutine, and /proc/self/net is
	// that of its namespace.
	defer func() {
		err = errors.Join(err, os.NewSyscallError("setns", unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)))
	}()
	if err := RaiseLoopback(); err != nil {
		return err
	}
	// ip(8) runs in the namespace of this thread.
	link := exec.Command("ip", "link", "add", "there", "type", "veth", "peer", "name", "here", "netns", "/proc/self/fd/3")
	link.ExtraFiles = []*os.File{home}
	if output, err := link.CombinedOutput(); err != nil {
		return fmt.Errorf("ip link add: %w: %s", err, output)
	}
	if err := configure("there", there); err != nil {
		return err
	}
	away, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer away.Close()
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
		return os.NewSyscallError("setns", err)
	}
	if err := configure("here", here); err != nil {
		return err
	}
	if err := unix.Setns(int(away.Fd()), unix.CLONE_NEWNET); err != nil {
		return os.NewSyscallError("setns", err)
	}
	return f()
}

func configure(name, address string) error {
	if err := AddAddress(name, address); err != nil {
		return err
	}
	return raise(name)
}

func raise(name string) error {
	return onInterface(name, func(fd int, ifr *unix.Ifreq) error {
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
			return err
		}
		ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
		return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
	})
}

func onInterface(name string, f func(fd int, ifr *unix.Ifreq) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := f(fd, ifr); err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	return nil
}
