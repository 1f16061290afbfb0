//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// What the machine prints around the tests' own output. The console has nothing
// else, but for the kernel's messages.
const (
	markRelease = "kernels: release "
	markStart   = "kernels: start "
	markExit    = "kernels: exit "
	markEnd     = "kernels: end"
)

// start is the first process of the machine.
const start = `#!/bin/busybox sh
b=/bin/busybox
$b mkdir -p /proc /sys /dev /tmp /run
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
$b mount -t tmpfs tmp /tmp
exec </dev/console >/dev/console 2>&1
$b chmod 1777 /tmp
$b ip link set lo up
$b ln -s busybox /bin/ip
ulimit -n 524288
export PATH=/bin HOME=/tmp TMPDIR=/tmp
echo
echo "` + markRelease + `$($b uname -r)"
. /tests
echo
echo "` + markEnd + `"
$b poweroff -f
`

// buildImage builds the tests and packs them with busybox into an initramfs.
func buildImage(ctx context.Context, dir string, env environment, busybox string, packages []string) (string, error) {
	root := filepath.Join(dir, "root")
	files := map[string]string{
		"init":              start,
		"etc/passwd":        "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
		"etc/group":         "root:x:0:\nnogroup:x:65534:\n",
		"etc/hosts":         "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n", // as Debian has it
		"etc/resolv.conf":   "",
		"etc/nsswitch.conf": "hosts: files dns\n",
	}
	tests, err := buildTests(ctx, root, env, packages)
	if err != nil {
		return "", err
	}
	files["tests"] = tests
	for name, text := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			return "", err
		}
	}
	if err := copyFile(filepath.Join(root, "bin/busybox"), busybox, 0o755); err != nil {
		return "", err
	}
	image := filepath.Join(dir, "initramfs")
	return image, pack(ctx, root, image)
}

// buildTests puts the tests of the packages into root, and the module's files, which
// some tests read. It returns the shell script that runs the tests.
func buildTests(ctx context.Context, root string, env environment, packages []string) (script string, err error) {
	module, err := output(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return "", err
	}
	module = strings.TrimSpace(module)
	if len(packages) == 0 {
		packages = []string{module}
		if entries, err := os.ReadDir(filepath.Join(module, "proof")); err == nil && len(entries) > 0 {
			packages = append(packages, module+"/proof/...")
		}
	}
	target := []string{"env", "GOOS=linux", "GOARCH=" + env.arch, "CGO_ENABLED=0"}
	list, err := output(
		ctx,
		"",
		append(
			target,
			append([]string{"go", "list", "-f", "{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}"}, packages...)...)...)
	if err != nil {
		return "", err
	}
	if env.kernel == "" {
		script = "export SAFEDIAL_REQUIRE_NETNS=1\n" // Debian's kernels have all that the tests need
	}
	if env.sysctl != "" {
		script += fmt.Sprintf("export SAFEDIAL_SYSCTL='%s'\n", env.sysctl)
	}
	flags, tests := fmt.Sprintf(" -test.count=%d", *count), strings.Fields(list)
	if *short {
		flags += " -test.short"
	}
	if len(tests) == 0 {
		return "", errors.New("the packages have no tests")
	}
	for name, value := range map[string]string{"run": cmp.Or(*run, env.run), "skip": skipped()} {
		if value != "" {
			flags += fmt.Sprintf(" -test.%s='%s'", name, strings.ReplaceAll(value, "'", `'\''`))
		}
	}
	for i, dir := range tests {
		place, err := filepath.Rel(module, dir)
		if err != nil {
			return "", err
		}
		test := fmt.Sprintf("bin/test%d", i)
		if _, err := output(
			ctx,
			dir,
			append(target, "go", "test", "-c", "-ldflags=-s -w", "-o", filepath.Join(root, test), ".")...); err != nil {
			return "", err
		}
		script += fmt.Sprintf(
			"cd '/src/%s'\necho\necho '%s%s'\n/%s -test.v -test.timeout=%s%s\nstatus=$?\necho\necho \"%s$status\"\n",
			place,
			markStart,
			place,
			test,
			*limit,
			flags,
			markExit,
		)
	}
	return script, copyTree(filepath.Join(root, "src"), module)
}

// neverRun are the tests that do not run: one counts system calls with strace(1), and the
// others make links between network namespaces, for which the kernels need a module.
const neverRun = "^TestSystemCalls$|^TestLinkDown$|^TestOwnPortToAnotherHost$|^TestUDPPeer(InOtherNamespace|WithOwnAddress)$"

// skipped are the tests that do not run, and those that the flag names.
func skipped() string { return strings.Trim(neverRun+"|"+*skip, "|") }

// copyTree copies the text files of a module, which are small.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		place, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if entry.Name() == ".git" {
				return fs.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, place), 0o755)
		}
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() || info.Size() > 1<<20 {
			return err
		}
		return copyFile(filepath.Join(to, place), path, info.Mode().Perm())
	})
}

func copyFile(to, from string, mode fs.FileMode) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}

// pack packs root into an initramfs, all of whose files are root's.
func pack(ctx context.Context, root, image string) error {
	var names bytes.Buffer
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if place, rel := filepath.Rel(root, path); err == nil && rel == nil {
			fmt.Fprintln(&names, place)
		}
		return err
	})
	if err != nil {
		return err
	}
	file, err := os.Create(image)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "busybox", "cpio", "-o", "-H", "newc", "-R", "0:0")
	cmd.Dir, cmd.Stdin, cmd.Stdout = root, &names, file
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := errors.Join(cmd.Run(), file.Close()); err != nil {
		return fmt.Errorf("busybox cpio: %w\n%s", err, said.Bytes())
	}
	return nil
}
