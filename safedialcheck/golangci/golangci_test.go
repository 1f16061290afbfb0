package golangci_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/golangci/plugin-module-register/register"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial/safedialcheck/dials"
	_ "github.com/safedial/safedial/safedialcheck/golangci"
	"github.com/safedial/safedial/safedialcheck/listenports"
)

var custom = flag.Bool("custom", false, "build a golangci-lint with the plugin, and run it")

const (
	config = `version: "2"
linters:
  default: none
  enable: [safedial]
  settings:
    custom:
      safedial:
        type: module
        settings:
          range: 30000-60999
formatters:
  enable: [goimports]
`
	source = `package p

import "net"

func fixed() { net.Dial("tcp", "a:80") }

func suppressed() {
	net.Dial("tcp", "a:80") //nolint:safedial // the server never stops
	net.Dial("tcp", "a:80") //safedial:ignore the server never stops
}

func listen() { net.Listen("tcp", ":30000") }
`
	only = `package p

import "net"

func only() { net.Dial("tcp", "a:80") }
`
	get = `package get

import "net/http"

func Get() { http.Get("http://a") }
`
	program = `package main

import "p/get"

func main() { get.Get() }
`
)

func TestSettings(t *testing.T) {
	build, err := register.GetPlugin("safedial")
	require.NoError(t, err)
	ports := listenports.Analyzer.Flags.Lookup("range").Value
	old := ports.String()
	t.Cleanup(func() {
		require.NoError(t, ports.Set(old))
		require.NoError(t, dials.Analyzer.Flags.Set("tests", "false"))
	})
	plugin, err := build(map[string]any{"range": "8000-9000", "tests": true})
	require.NoError(t, err)
	analyzers, err := plugin.BuildAnalyzers()
	require.NoError(t, err)
	assert.Len(t, analyzers, 3)
	assert.Equal(t, register.LoadModeTypesInfo, plugin.GetLoadMode())
	assert.Equal(t, "8000-9000", ports.String())
	assert.Equal(t, "true", dials.Analyzer.Flags.Lookup("tests").Value.String())
	assert.Equal(t, "false", dials.Analyzer.Flags.Lookup("defaulttransport").Value.String())

	_, err = build(map[string]any{"rang": "8000-9000"})
	require.Error(t, err)
	plugin, err = build(map[string]any{"range": "foo"})
	require.NoError(t, err)
	_, err = plugin.BuildAnalyzers()
	assert.ErrorContains(t, err, `range: "foo" is not a port range`)
}

// TestCustom builds golangci-lint as the README says, but with this folder's plugin, and
// with golangci-lint's source from the module proxy.
func TestCustom(t *testing.T) {
	if !*custom {
		t.Skip("the flag -custom is not set")
	}
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	version := regexp.MustCompile(`(?m)^version: (v2\.\S+)$`).FindStringSubmatch(string(readme))
	require.NotNil(t, version)
	plugin, err := filepath.Abs("..")
	require.NoError(t, err)
	root := filepath.Dir(plugin)
	dir := t.TempDir()
	const path = "github.com/safedial/safedial/safedialcheck"
	write(t, dir, ".custom-gcl.yml", fmt.Sprintf("version: %s\nname: gcl\nplugins:\n"+
		"  - module: %s\n    import: %[2]s/golangci\n    path: %s\n", version[1], path, plugin))
	cloneFromProxy(t, version[1])
	lint := filepath.Join(dir, "golangci-lint")
	t.Setenv("GOBIN", dir)
	output(t, dir, "go", "install", "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@"+version[1])
	output(t, dir, lint, "custom")

	work := t.TempDir()
	write(t, work, "go.mod", "module p\n\ngo 1.26.0\n")
	write(t, work, "go.work", "go 1.26.0\n\nuse .\n\nuse "+root+"\n")
	write(t, work, ".golangci.yml", config)
	write(t, work, "p.go", source)
	write(t, work, "only.go", only)
	write(t, work, "get/get.go", get)
	write(t, work, "cmd/main.go", program)
	lint = filepath.Join(dir, "gcl")
	printed := output(t, work, lint, "run", "--issues-exit-code=0", "./...")
	t.Log(printed)
	assert.Contains(t, printed, "p.go:5:16: dials: net.Dial does not use safedial (safedial)")
	assert.Contains(t, printed, "only.go:5:15: dials: net.Dial does not use safedial (safedial)")
	assert.Contains(t, printed, "p.go:12:35: listenports: port 30000 lies in the local port range 30000-60999")
	assert.Contains(t, printed, "main.go:5:6: dials: http.DefaultTransport does not use safedial; left as it is: "+
		"the program uses it (http.Get in p/get/get.go:5)")
	assert.NotContains(t, printed, "p.go:8:")
	assert.NotContains(t, printed, "p.go:9:")

	printed = output(t, work, lint, "run", "--fix", "--issues-exit-code=0", "./...")
	t.Log(printed)
	assert.NotContains(t, printed, "net.Dial")
	t.Log(output(t, work, "cat", "p.go", "only.go"))
	output(t, work, "go", "build", "./...")
}

// cloneFromProxy has git clone golangci-lint from a repository that is made of the module.
func cloneFromProxy(t *testing.T, version string) {
	t.Helper()
	var module struct{ Dir string }
	text := output(t, t.TempDir(), "go", "mod", "download", "-json",
		"github.com/golangci/golangci-lint/v2@"+version)
	require.NoError(t, json.Unmarshal([]byte(text), &module))
	repository := filepath.Join(t.TempDir(), "golangci-lint.git")
	require.NoError(t, os.CopyFS(repository, os.DirFS(module.Dir)))
	output(t, repository, "chmod", "-R", "u+w", ".")
	output(t, repository, "git", "init", "-q")
	output(t, repository, "git", "add", "-Af")
	output(t, repository, "git", "-c", "user.name=test", "-c", "user.email=test@example.com",
		"commit", "-qm", "Release")
	output(t, repository, "git", "tag", version)
	t.Setenv("GIT_CONFIG_COUNT", "1")
	t.Setenv("GIT_CONFIG_KEY_0", "url."+repository+".insteadOf")
	t.Setenv("GIT_CONFIG_VALUE_0", "https://github.com/golangci/golangci-lint.git")
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
}

// output runs a command that has to succeed, and returns what it prints.
func output(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %q: %s", name, args, text)
	return string(text)
}
