package dials_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/tools/go/packages"

	_ "github.com/safedial/safedial" // what is fixed imports it
)

// TestFixedBuilds compiles the fixed packages with safedial itself.
func TestFixedBuilds(t *testing.T) {
	golden, err := filepath.Glob("testdata/src/*/*.golden")
	require.NoError(t, err)
	require.NotEmpty(t, golden)
	config := &packages.Config{Mode: packages.LoadSyntax, Overlay: make(map[string][]byte)}
	var patterns []string
	for _, name := range golden {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		path, err := filepath.Abs(name[:len(name)-len(".golden")])
		require.NoError(t, err)
		config.Overlay[path] = text
		patterns = append(patterns, "./"+filepath.Dir(name))
	}
	loaded, err := packages.Load(config, patterns...)
	require.NoError(t, err)
	require.Len(t, loaded, len(golden))
	for _, p := range loaded {
		assert.Empty(t, p.Errors, p.PkgPath)
		assert.Contains(t, p.Imports, "github.com/safedial/safedial")
	}
}
