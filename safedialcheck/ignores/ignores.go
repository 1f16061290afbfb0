// Package ignores defines an Analyzer that reports the comments "//safedial:ignore" that
// have no reason, and those that suppress no report of the analyzers dials and
// listenports.
package ignores

import (
	"golang.org/x/tools/go/analysis"

	"github.com/safedial/safedial/safedialcheck/dials"
	"github.com/safedial/safedial/safedialcheck/internal/ignore"
	"github.com/safedial/safedial/safedialcheck/listenports"
)

// Analyzer reports comments "//safedial:ignore" that do nothing.
var Analyzer = &analysis.Analyzer{
	Name:     "ignores",
	Doc:      "report //safedial:ignore comments without a reason, or without a report to suppress",
	URL:      "https://pkg.go.dev/github.com/safedial/safedial/safedialcheck/ignores",
	Requires: []*analysis.Analyzer{dials.Analyzer, listenports.Analyzer},
	Run:      run,
}

func run(pass *analysis.Pass) (any, error) {
	for _, d := range ignore.Of(pass).All() {
		switch {
		case d.Reason == "":
			pass.ReportRangef(d.Comment, "safedial:ignore needs a reason after it")
		case !used(pass, dials.Analyzer, d) && !used(pass, listenports.Analyzer, d):
			pass.ReportRangef(d.Comment, "safedial:ignore suppresses no report; remove it")
		}
	}
	return nil, nil
}

func used(pass *analysis.Pass, a *analysis.Analyzer, d *ignore.Directive) bool {
	return pass.ResultOf[a].(ignore.Used)[d.Comment.Pos()]
}
