package dials_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/tools/go/analysis/analysistest"

	"github.com/safedial/safedial/safedialcheck/dials"
)

func TestFixes(t *testing.T) {
	analysistest.RunWithSuggestedFixes(t, analysistest.TestData(), dials.Analyzer,
		"functions", "dialers", "transport", "unbuildable")
}

// TestLeft is for packages in which nothing is fixed.
func TestLeft(t *testing.T) {
	results := analysistest.Run(t, analysistest.TestData(), dials.Analyzer,
		"clients", "shadow", "generated", "dot", "cgo",
		"advised", "switched", "switchedlater", "silent", "usesdefault")
	for _, r := range results {
		for _, d := range r.Diagnostics {
			assert.Empty(t, d.SuggestedFixes, d.Message)
		}
	}
}

func TestDefaultTransport(t *testing.T) {
	set(t, "defaulttransport")
	analysistest.RunWithSuggestedFixes(t, analysistest.TestData(), dials.Analyzer,
		"program", "single", "switched")
}

// TestTests is for the dials of test files.
func TestTests(t *testing.T) {
	set(t, "tests")
	analysistest.Run(t, analysistest.TestData(), dials.Analyzer, "intests")
}

// set sets a flag of the analyzer for a test.
func set(t *testing.T, name string) {
	t.Helper()
	require.NoError(t, dials.Analyzer.Flags.Set(name, "true"))
	t.Cleanup(func() { require.NoError(t, dials.Analyzer.Flags.Set(name, "false")) })
}
