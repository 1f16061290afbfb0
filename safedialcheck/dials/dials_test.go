package dials_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/tools/go/analysis/analysistest"

	"github.com/safedial/safedial/safedialcheck/dials"
)

func TestFixes(t *testing.T) {
	analysistest.RunWithSuggestedFixes(t, analysistest.TestData(), dials.Analyzer, "functions", "dialers", "transport")
}

// TestLeft is for packages in which nothing is fixed.
func TestLeft(t *testing.T) {
	results := analysistest.Run(t, analysistest.TestData(), dials.Analyzer, "clients", "shadow", "generated", "advised", "switched", "silent")
	for _, r := range results {
		for _, d := range r.Diagnostics {
			require.Empty(t, d.SuggestedFixes, d.Message)
		}
	}
}

func TestDefaultTransport(t *testing.T) {
	set(t, "defaulttransport")
	analysistest.RunWithSuggestedFixes(t, analysistest.TestData(), dials.Analyzer, "program", "single", "switched")
}

// set sets a flag of the analyzer for a test.
func set(t *testing.T, name string) {
	t.Helper()
	require.NoError(t, dials.Analyzer.Flags.Set(name, "true"))
	t.Cleanup(func() { require.NoError(t, dials.Analyzer.Flags.Set(name, "false")) })
}
