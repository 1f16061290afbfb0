//go:build linux

package main

import (
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// checkPrograms fails with the Debian packages that have the missing programs.
func checkPrograms(envs []environment) error {
	needed := [][2]string{{"busybox", "busybox-static"}}
	for _, env := range envs {
		m := machines[env.arch]
		needed = append(needed, [2]string{m.program, m.debianPackage})
		if env.kernel == "" || env.arch != runtime.GOARCH {
			needed = append(needed, [2]string{"apt-get", "apt"}, [2]string{"dpkg-deb", "dpkg"})
		}
	}
	var missing []string
	for _, n := range needed {
		if _, err := exec.LookPath(n[0]); err != nil && !slices.Contains(missing, n[1]) {
			missing = append(missing, n[1])
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("install the Debian packages %s", strings.Join(missing, " "))
	}
	return nil
}

// apt is APT for packages of one architecture, with lists and a cache of its own:
// nothing of the system's changes, and the user need not be root.
type apt struct {
	dir     string
	options []string
}

func newAPT(arch string) (apt, error) {
	dir, err := filepath.Abs(filepath.Join(*cache, arch))
	if err != nil {
		return apt{}, err
	}
	for _, sub := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return apt{}, err
		}
	}
	status := filepath.Join(dir, "status") // nothing is installed of that architecture
	if err := os.WriteFile(status, nil, 0o644); err != nil {
		return apt{}, err
	}
	a := apt{dir, []string{
		"-oAPT::Architecture=" + arch, "-oAPT::Architectures=" + arch,
		"-oDir::State::Lists=" + filepath.Join(dir, "lists"), "-oDir::State::status=" + status, "-oDir::Cache=" + dir,
		"-oAcquire::Languages=none", "-oAPT::Sandbox::User=root",
	}}
	if *sources != "" {
		file, err := filepath.Abs(*sources)
		if err != nil {
			return apt{}, err
		}
		a.options = append(a.options, "-oDir::Etc::SourceList="+file, "-oDir::Etc::SourceParts=/dev/null")
	}
	return a, nil
}

func (a apt) run(ctx context.Context, program string, args ...string) (string, error) {
	return output(ctx, a.dir, append(append([]string{program}, a.options...), args...)...)
}

// output runs a command in dir, and returns what it prints. Its error has what the
// command says of it.
func output(ctx context.Context, dir string, command ...string) (string, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, exit.Stderr)
	}
	return string(out), err
}

// newest returns the name that the pattern matches with the greatest numbers.
func newest(names []string, pattern string) (string, error) {
	match := regexp.MustCompile(pattern)
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !match.MatchString(name) })
	if len(names) == 0 {
		return "", fmt.Errorf("the distribution has no package %s: name the apt sources of a release that has one with -sources", pattern)
	}
	return slices.MaxFunc(names, func(a, b string) int { return slices.CompareFunc(numbers(a), numbers(b), cmp.Compare) }), nil
}

var number = regexp.MustCompile(`[0-9]+`)

func numbers(name string) (all []int) {
	for _, digits := range number.FindAllString(name, -1) {
		n, _ := strconv.Atoi(digits)
		all = append(all, n)
	}
	return all
}

// fetch unpacks the newest package that the pattern matches, unless an earlier run
// has, and returns the only file of it that the glob matches.
func fetch(ctx context.Context, arch, pattern, glob string) (string, error) {
	a, err := newAPT(arch)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(a.dir, strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(pattern, "-"), "-"))
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		if err := a.unpack(ctx, pattern, dir); err != nil {
			return "", err
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, glob))
	if err == nil && len(files) != 1 {
		err = fmt.Errorf("%d files %s in %s", len(files), glob, dir)
	}
	if err != nil {
		return "", err
	}
	return files[0], nil
}

func (a apt) unpack(ctx context.Context, pattern, dir string) error {
	if _, err := a.run(ctx, "apt-get", "-q", "update"); err != nil {
		return err
	}
	names, err := a.run(ctx, "apt-cache", "pkgnames")
	if err != nil {
		return err
	}
	name, err := newest(strings.Fields(names), pattern)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "fetching", name)
	if _, err := a.run(ctx, "apt-get", "-q", "download", name); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(a.dir, name+"_*.deb"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no file of %s after its download: %w", name, err)
	}
	defer os.Remove(files[0])
	unpacked := dir + ".new" // so that what is interrupted does not count
	if _, err := output(ctx, "", "dpkg-deb", "-x", files[0], unpacked); err != nil {
		return err
	}
	return os.Rename(unpacked, dir)
}

// fetchKernel returns the kernel's file.
func fetchKernel(ctx context.Context, env environment) (string, error) {
	return fetch(ctx, env.arch, env.debian, "boot/vmlinuz-*")
}

// fetchBusybox returns a static busybox of the architecture.
func fetchBusybox(ctx context.Context, arch string) (string, error) {
	if arch != runtime.GOARCH {
		return fetch(ctx, arch, "^busybox-static$", "*bin/busybox")
	}
	file, err := exec.LookPath("busybox")
	if err != nil {
		return "", err
	}
	program, err := elf.Open(file)
	if err != nil {
		return "", err
	}
	defer program.Close()
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP {
			return "", fmt.Errorf("%s needs shared libraries: install the Debian package busybox-static", file)
		}
	}
	return file, nil
}
