//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A machine is how QEMU emulates an architecture.
type machine struct {
	program       string
	debianPackage string
	options       []string
	console       string
}

var machines = map[string]machine{
	"amd64": {"qemu-system-x86_64", "qemu-system-x86", []string{"-machine", "q35", "-cpu", "max"}, "ttyS0"},
	"arm64": {"qemu-system-aarch64", "qemu-system-arm", []string{"-machine", "virt", "-cpu", "cortex-a57"}, "ttyAMA0"},
	"s390x": {"qemu-system-s390x", "qemu-system-misc", []string{"-machine", "s390-ccw-virtio", "-cpu", "max"}, "ttysclp0"},
}

// A kernel must reach its first process within bootLimit, or it is booted again, boots
// times in all: QEMU can fail before that, which says nothing about the tests.
const (
	bootLimit = 3 * time.Minute
	boots     = 3
)

// A report is what the tests in an environment have said.
type report struct {
	release                 string
	passed, failed, skipped int

	failures []string // names of tests
	skips    []string // names of those that skip for another reason than they may
	excuse   string   // what the reason of a test that skips must name
	said     []string // lines since the start of the last test
	pkg      string   // that runs
	last     string   // the test that was named last
	tail     []string // the last lines of the console
	statuses int      // exit statuses other than 0
	ended    bool
}

func (r report) String() string {
	release := r.release
	if release == "" {
		release = "no kernel"
	}
	return fmt.Sprintf("%s, %d passed, %d failed, %d skipped", release, r.passed, r.failed, r.skipped)
}

const tailLines = 40

// read takes in a line of the console.
func (r *report) read(line string) {
	r.tail = append(r.tail, line)
	if len(r.tail) > tailLines {
		r.tail = r.tail[1:]
	}
	if name, ok := strings.CutPrefix(line, markRelease); ok && r.release == "" {
		r.release = name
	}
	if name, ok := strings.CutPrefix(line, markStart); ok {
		r.pkg = name
	}
	if status, ok := strings.CutPrefix(line, markExit); ok {
		if n, err := strconv.Atoi(status); err != nil || n != 0 {
			r.statuses++
		}
	}
	r.ended = r.ended || line == markEnd
	r.said = append(r.said, line)
	if name, ok := strings.CutPrefix(line, "=== RUN   "); ok {
		r.last, r.said = name, nil
	}
	// Those of subtests are indented.
	for prefix, count := range map[string]*int{
		"--- PASS: ": &r.passed, "--- FAIL: ": &r.failed, "--- SKIP: ": &r.skipped,
	} {
		if name, ok := strings.CutPrefix(line, prefix); ok {
			*count++
			switch {
			case count == &r.failed:
				r.failures = append(r.failures, r.pkg+" "+name)
			case count == &r.skipped && !r.maySkip(strings.Join(r.said, "\n")):
				r.skips = append(r.skips, r.pkg+" "+name)
			}
		}
	}
}

// maySkip reports whether a test that says this has a good reason to skip: what is missing
// there, or -short.
func (r *report) maySkip(said string) bool {
	return r.excuse != "" && strings.Contains(said, r.excuse) || *short && strings.Contains(said, "-short")
}

// err returns why the run is no success.
func (r *report) err() error {
	switch tail := strings.Join(r.tail, "\n"); {
	case r.release == "":
		return fmt.Errorf("the kernel did not boot; the end of its console:\n%s", tail)
	case !r.ended:
		return fmt.Errorf("the machine ended in %s, after the start of %s; the end of its console:\n%s", r.pkg, r.last, tail)
	case r.failed > 0:
		return fmt.Errorf("failed: %s", strings.Join(r.failures, ", "))
	case len(r.skips) > 0:
		return fmt.Errorf("skipped, although the kernel has what they need: %s", strings.Join(r.skips, ", "))
	case r.statuses > 0:
		return fmt.Errorf("an exit status other than 0; the end of the console:\n%s", tail)
	case r.passed == 0:
		return errors.New("no test ran")
	}
	return nil
}

// logFile returns where the console of the last run stays.
func logFile(env environment) string { return filepath.Join(*cache, env.name+".log") }

// boot boots the kernel with the image, and reports what its tests say.
func boot(ctx context.Context, env environment, kernel, image string) (r report, err error) {
	r.excuse = env.excuse
	ctx, cancel := context.WithTimeoutCause(ctx, *limit, fmt.Errorf("the limit of %s is up", *limit))
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	m := machines[env.arch]
	// Linux patches its own code on amd64. With a thread for each processor, QEMU 7.2 now
	// and then runs what was there before, and the kernel panics.
	args := append([]string{
		"-nodefaults", "-nographic", "-serial", "stdio", "-no-reboot", "-smp", "2", "-m", "3G", "-accel", "tcg,thread=single",
		"-kernel", kernel, "-initrd", image,
		"-append", "console=" + m.console + " quiet panic=-1 " + *appended,
	}, m.options...)
	cmd := exec.CommandContext(ctx, m.program, args...)
	console, err := cmd.StdoutPipe()
	if err != nil {
		return r, err
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return r, err
	}
	booting := time.AfterFunc(bootLimit, func() { giveUp(fmt.Errorf("no first process within %s", bootLimit)) })
	defer booting.Stop()
	log, err := os.Create(logFile(env))
	if err != nil {
		return r, err
	}
	defer log.Close()
	var shown io.Writer = log
	if *verbose {
		shown = io.MultiWriter(log, os.Stdout)
	}
	lines := bufio.NewScanner(console)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r")
		fmt.Fprintln(shown, line)
		if r.read(line); r.release != "" {
			booting.Stop()
		}
	}
	err = cmd.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return r, fmt.Errorf("%w: %w", cause, r.err())
	}
	if err != nil {
		return r, fmt.Errorf("%s: %w\n%s", m.program, err, said.String())
	}
	return r, r.err()
}
