package ignores_test

import (
	"testing"

	"golang.org/x/tools/go/analysis/analysistest"

	"github.com/safedial/safedial/safedialcheck/ignores"
)

func TestIgnores(t *testing.T) {
	analysistest.Run(t, analysistest.TestData(), ignores.Analyzer, "ignored")
}
