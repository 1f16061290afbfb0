package dials

import (
	"fmt"
	"go/ast"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// A finding is a place that dials without safedial: with the edits that fix it, or with
// the reason why it is left.
type finding struct {
	node    ast.Node
	what    string
	reason  string
	message string // says what the edits do
	edits   []analysis.TextEdit
}

// leave notes a place that is not fixed, with the reason.
func (c *checker) leave(n ast.Node, what, reason string) {
	c.found = append(c.found, finding{node: n, what: what, reason: reason})
}

// fix notes a place with its fix.
func (c *checker) fix(n ast.Node, what, message string, edits []analysis.TextEdit) {
	f := finding{node: n, what: what, message: message, edits: edits}
	f.reason = c.untouchable(edits)
	c.found = append(c.found, f)
}

// untouchable returns the reason why a file with one of the edits cannot be edited.
func (c *checker) untouchable(edits []analysis.TextEdit) string {
	for _, edit := range edits {
		switch f := c.file(edit.Pos); {
		case fromCgo(f):
			return `it is used in a file that imports "C"`
		case c.generated(f):
			return "it is used in a generated file"
		}
	}
	return ""
}

// report reports what is found and not suppressed. A fix that would not build, or that
// would change a line whose report is suppressed, becomes a reason.
func (c *checker) report() {
	var shown []finding
	suppressed := make(map[string]bool)
	for _, f := range c.found {
		if c.ignored.Covers(f.node.Pos()) {
			suppressed[c.line(f.node.Pos())] = true
			continue
		}
		if inTests || !strings.HasSuffix(c.Fset.Position(f.node.Pos()).Filename, "_test.go") {
			shown = append(shown, f)
		}
	}
	for i := range shown {
		for _, edit := range shown[i].edits {
			if edit.Pos < edit.End && suppressed[c.line(edit.Pos)] {
				shown[i].reason = "the fix would change a line with safedial:ignore"
			}
		}
	}
	c.verify(shown)
	for _, f := range shown {
		c.Report(f.diagnostic())
	}
}

func (f finding) diagnostic() analysis.Diagnostic {
	d := analysis.Diagnostic{Pos: f.node.Pos(), End: f.node.End(), Category: "left"}
	if f.reason != "" {
		d.Message = fmt.Sprintf("%s does not use safedial; left as it is: %s", f.what, f.reason)
		return d
	}
	d.Category = "fixed"
	d.Message = f.what + " does not use safedial"
	d.SuggestedFixes = []analysis.SuggestedFix{{Message: f.message, TextEdits: f.edits}}
	return d
}
