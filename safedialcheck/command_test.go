package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

const (
	dialing = "package p\n\nimport \"net\"\n\nfunc dial() { net.Dial(\"tcp\", \"a:80\") }\n"
	ignored = "package p\n\nimport \"net\"\n\nfunc dial() {\n" +
		"\tnet.Dial(\"tcp\", \"a:80\") //safedial:ignore the server never stops\n}\n"
	unused       = "package p\n\n//safedial:ignore the server never stops\nfunc dial() {}\n"
	badRangeLine = `safedialcheck: flag -range: "foo" is not a port range such as 32768-60999`
	tagged       = "//go:build tagged\n\n" + unused
)

// TestExitStatus runs the tool as a user does.
func TestExitStatus(t *testing.T) {
	tool := build(t)
	tests := []struct {
		name   string
		source string
		args   []string
		status int
		output string // a line, or the end of one
	}{
		{"report", dialing, []string{"./..."}, 1, "p.go:5:15: net.Dial does not use safedial"},
		{"suppressed", ignored, []string{"./..."}, 0, ""},
		{"unused", unused, []string{"./..."}, 1, "safedial:ignore suppresses no report; remove it"},
		{"other check", unused, []string{"-listenports", "./..."}, 0, ""},
		{"build tag", tagged, []string{"-tags=tagged"}, 1, "suppresses no report; remove it"},
		{"no packages named", dialing, nil, 1, "net.Dial does not use safedial"},
		{"other folder", dialing, []string{"-C", "."}, 1, "net.Dial does not use safedial"},
		{"wrong range", dialing, []string{"-range", "foo", "./..."}, 2, badRangeLine},
		{"wrong range, by its long name", dialing, []string{"-listenports.range=foo"}, 2, badRangeLine},
		{"wrong flag", dialing, []string{"-bogus"}, 2, "flag provided but not defined: -bogus"},
		{"help", dialing, []string{"-h"}, 0, "exit status:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, output := start(t, folder(t, tt.source), tool, tt.args...)
			assert.Equal(t, tt.status, status, output)
			found := tt.output == ""
			for line := range strings.Lines(output) {
				found = found || strings.HasSuffix(strings.TrimSuffix(line, "\n"), tt.output)
			}
			assert.True(t, found, output)
			if tt.output == "" {
				assert.Empty(t, output)
			}
			if strings.HasPrefix(tt.name, "wrong range") {
				assert.Equal(t, 1, strings.Count(output, "\n"), output)
			}
		})
	}
}

// TestWrongRangeOfVet prints a line for the package, and none for what it imports.
func TestWrongRangeOfVet(t *testing.T) {
	tool := "-vettool=" + build(t)
	status, output := start(t, folder(t, dialing), "go", "vet", tool, "-range", "foo", "./...")
	assert.Equal(t, 1, status)
	assert.Equal(t, "# p\n"+badRangeLine+"\n", output)
}

// TestHelp lists each flag of the analyzers, and the flags that the go command is told of.
func TestHelp(t *testing.T) {
	tool := build(t)
	_, help := start(t, t.TempDir(), tool, "-help")
	_, flags := start(t, t.TempDir(), tool, "-flags")
	names := []string{"dials", "listenports", "dials.tests", "dials.defaulttransport", "range"}
	for _, name := range names {
		assert.Contains(t, help, "  -"+name+" ")
		assert.Contains(t, flags, fmt.Sprintf("%q", name))
	}
}

// TestFix applies a fix, and prints it.
func TestFix(t *testing.T) {
	tool := build(t)
	dir := folder(t, dialing)
	status, output := start(t, dir, tool, "-fix", "-diff", "-dials", "./...")
	assert.Equal(t, 1, status)
	assert.Contains(t, output, "+func dial() { safedial.Dial(\"tcp\", \"a:80\") }\n")
	status, output = start(t, dir, tool, "-fix", "-dials", "./...")
	assert.Equal(t, 0, status, output)
	text, err := os.ReadFile(filepath.Join(dir, "p.go"))
	require.NoError(t, err)
	assert.Equal(t, "package p\n\nimport \"github.com/safedial/safedial\"\n\n"+
		"func dial() { safedial.Dial(\"tcp\", \"a:80\") }\n", string(text))
}

// TestInstall installs the tool from a module proxy, as a user does, and runs it by a
// tool directive.
func TestInstall(t *testing.T) {
	const path, version = "github.com/safedial/safedial/safedialcheck", "v0.1.0"
	proxy := t.TempDir()
	dir := filepath.Join(proxy, path, "@v")
	require.NoError(t, os.MkdirAll(dir, 0o700))
	var archive bytes.Buffer
	require.NoError(t, zip.CreateFromDir(&archive, module.Version{Path: path, Version: version}, "."))
	write(t, filepath.Join(dir, version+".zip"), archive.String())
	mod, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	write(t, filepath.Join(dir, version+".mod"), string(mod))
	write(t, filepath.Join(dir, version+".info"), fmt.Sprintf(`{"Version": %q}`, version))
	write(t, filepath.Join(dir, "list"), version+"\n")

	goEnv, err := exec.Command("go", "env", "GOPROXY", "GOMODCACHE").Output()
	require.NoError(t, err)
	env := strings.Fields(string(goEnv))
	bin := t.TempDir()
	t.Setenv("GOBIN", bin)
	t.Setenv("GOFLAGS", "-modcacherw")
	t.Setenv("GOMODCACHE", t.TempDir())
	t.Setenv("GONOSUMDB", path)
	t.Setenv("GOPROXY", "file://"+proxy+",file://"+env[1]+"/cache/download,"+env[0])
	status, output := start(t, t.TempDir(), "go", "install", path+"@latest")
	require.Equal(t, 0, status, output)
	work := folder(t, unused)
	status, output = start(t, work, filepath.Join(bin, "safedialcheck"), "./...")
	assert.Equal(t, 1, status)
	assert.Contains(t, output, "safedial:ignore suppresses no report")

	status, output = start(t, work, "go", "get", "-tool", path+"@latest")
	require.Equal(t, 0, status, output)
	status, output = start(t, work, "go", "tool", "safedialcheck", "./...")
	assert.Equal(t, 1, status)
	assert.Contains(t, output, "safedial:ignore suppresses no report")
}

// build builds the tool.
func build(t *testing.T) string {
	t.Helper()
	tool := filepath.Join(t.TempDir(), "safedialcheck")
	output, err := exec.Command("go", "build", "-o", tool, ".").CombinedOutput()
	require.NoError(t, err, string(output))
	return tool
}

// folder returns the folder of a module with a file p.go.
func folder(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "go.mod"), "module p\n\ngo 1.26.0\n")
	write(t, filepath.Join(dir, "p.go"), source)
	return dir
}

func write(t *testing.T, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
}

// start runs a command in a folder, and returns its exit status and what it prints.
func start(t *testing.T, dir, name string, args ...string) (status int, output string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	text, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), string(text)
	}
	require.NoError(t, err)
	return 0, string(text)
}
