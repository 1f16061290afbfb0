package dials_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/tools/go/packages"
)

// TestFixedBuilds compiles the fixed packages with safedial itself.
func TestFixedBuilds(t *testing.T) {
	golden, err := filepath.Glob("testdata/src/*/*.golden")
	require.NoError(t, err)
	require.NotEmpty(t, golden)
	files := make(map[string]string)
	for _, name := range golden {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		path := strings.TrimSuffix(strings.TrimPrefix(name, "testdata/src/"), ".golden")
		files[path] = string(text)
	}
	loaded := load(t, module(t, files))
	require.Len(t, loaded, len(golden))
	for _, p := range loaded {
		assert.Empty(t, p.Errors, p.PkgPath)
		assert.Contains(t, p.Imports, "github.com/safedial/safedial")
	}
}

// module writes the files of a module that can import the safedial of this repository,
// and returns its folder. A workspace needs no requirement in go.mod.
func module(t *testing.T, files map[string]string) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "go.mod"), "module fixed\n\ngo 1.26.0\n")
	write(t, filepath.Join(dir, "go.work"), "go 1.26.0\n\nuse .\n\nuse "+root+"\n")
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

func write(t *testing.T, name, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
}

// load type-checks the packages of a module.
func load(t *testing.T, dir string) []*packages.Package {
	t.Helper()
	env := append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=")
	config := &packages.Config{Mode: packages.LoadSyntax, Dir: dir, Env: env}
	loaded, err := packages.Load(config, "./...")
	require.NoError(t, err)
	return loaded
}
