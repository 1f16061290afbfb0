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
	"sync"
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

// apt is APT for the packages of one architecture in one suite, with lists and a cache of
// its own: nothing of the system's changes, and the user need not be root.
type apt struct {
	dir     string
	options []string
}

func newAPT(ctx context.Context, suite, arch string) (apt, error) {
	dir, err := filepath.Abs(filepath.Join(*cache, suite+"-"+arch))
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
	list, err := sourcesList(ctx, dir, suite)
	if err != nil {
		return apt{}, err
	}
	return apt{dir, []string{
		"-oAPT::Architecture=" + arch, "-oAPT::Architectures=" + arch,
		"-oDir::State::Lists=" + filepath.Join(dir, "lists"), "-oDir::State::status=" + status, "-oDir::Cache=" + dir,
		"-oDir::Etc::SourceList=" + list, "-oDir::Etc::SourceParts=/dev/null",
		"-oAcquire::Languages=none", "-oAPT::Sandbox::User=root", "-oAPT::Update::Error-Mode=any",
	}}, nil
}

// sourcesList returns the file of the apt sources: the one that the user names, or one
// with the suite alone, from the mirror that the system's sources name.
func sourcesList(ctx context.Context, dir, suite string) (string, error) {
	if *sources != "" {
		return filepath.Abs(*sources)
	}
	repositories, err := output(ctx, "", "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
	if err != nil {
		return "", err
	}
	mirrors := strings.Fields(repositories)
	mirrors = slices.DeleteFunc(
		mirrors,
		func(uri string) bool { return !strings.HasSuffix(strings.Trim(uri, "/"), "/debian") },
	)
	if len(mirrors) == 0 {
		return "", errors.New("the system's apt sources name no mirror of Debian: name a file of apt sources with -sources")
	}
	keys, err := filepath.Glob("/usr/share/keyrings/debian-archive-keyring.???")
	if err != nil || len(keys) == 0 {
		return "", errors.New("install the Debian package debian-archive-keyring")
	}
	list := filepath.Join(dir, "sources.list")
	return list, os.WriteFile(list, fmt.Appendf(nil, "deb [signed-by=%s] %s %s main\n", keys[0], mirrors[0], suite), 0o644)
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

// errNoPackage means that the mirror has no such suite, or the suite no such package.
var errNoPackage = errors.New("not there; -sources names other apt sources")

// newest returns the name that the pattern matches with the greatest numbers. Of two
// with the same numbers it is the lesser: linux-binary has the kernel if there is one,
// and linux-image is then a package without files.
func newest(names []string, pattern string) (string, error) {
	match := regexp.MustCompile(pattern)
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !match.MatchString(name) })
	if len(names) == 0 {
		return "", fmt.Errorf("package %s: %w", pattern, errNoPackage)
	}
	return slices.MaxFunc(names, func(a, b string) int {
		return cmp.Or(slices.CompareFunc(numbers(a), numbers(b), cmp.Compare), strings.Compare(b, a))
	}), nil
}

var number = regexp.MustCompile(`[0-9]+`)

func numbers(name string) (all []int) {
	for _, digits := range number.FindAllString(name, -1) {
		n, _ := strconv.Atoi(digits)
		all = append(all, n)
	}
	return all
}

// fetching is held by the one fetch at a time: two environments can need the same package.
var fetching sync.Mutex

// fetch unpacks the newest package of the suite that the pattern matches, unless an
// earlier run has, and returns the only file of it that one of the globs matches.
func fetch(ctx context.Context, env environment, pattern string, globs ...string) (string, error) {
	fetching.Lock()
	defer fetching.Unlock()
	a, err := newAPT(ctx, env.suite, env.arch)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(a.dir, strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(pattern, "-"), "-"))
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		if err := a.unpack(ctx, env.suite, pattern, dir); err != nil {
			return "", err
		}
	}
	var files []string
	for _, glob := range globs {
		found, err := filepath.Glob(filepath.Join(dir, glob))
		if err != nil {
			return "", err
		}
		files = append(files, found...)
	}
	if len(files) != 1 {
		return "", fmt.Errorf("%d files %s in %s", len(files), strings.Join(globs, " or "), dir)
	}
	return files[0], nil
}

func (a apt) unpack(ctx context.Context, suite, pattern, dir string) error {
	if _, err := a.run(ctx, "apt-get", "-q", "update"); err != nil {
		return fmt.Errorf("suite %s: %w: %w", suite, errNoPackage, err)
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

// fetchKernel returns the kernel's file. Since 6.19 it is among the modules.
func fetchKernel(ctx context.Context, env environment) (string, error) {
	return fetch(ctx, env, env.debian, "boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz")
}

// fetchBusybox returns a static busybox of the architecture.
func fetchBusybox(ctx context.Context, env environment) (string, error) {
	if env.arch != runtime.GOARCH {
		return fetch(ctx, env, "^busybox-static$", "*bin/busybox", "usr/bin/busybox")
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
