// Package ignore reads the comments that suppress reports: "//safedial:ignore reason",
// on the line of the report or above it.
package ignore

import (
	"go/ast"
	"go/token"
	"strings"

	"golang.org/x/tools/go/analysis"
)

const prefix = "//safedial:ignore"

// A Directive is one comment. It suppresses the reports of one line if it has a reason.
type Directive struct {
	Comment *ast.Comment
	Reason  string
	file    string
	line    int
}

// A List has the directives of a package.
type List struct {
	fset       *token.FileSet
	directives []*Directive
	used       Used
}

// Used has the positions of the directives that have suppressed a report. It is the
// result of an analyzer.
type Used map[token.Pos]bool

// Of returns the directives of the package.
func Of(pass *analysis.Pass) *List {
	l := &List{fset: pass.Fset, used: make(Used)}
	for _, f := range pass.Files {
		var text []byte
		for _, group := range f.Comments {
			for _, comment := range group.List {
				reason, ok := strings.CutPrefix(comment.Text, prefix)
				if !ok || reason != "" && reason[0] != ' ' && reason[0] != '\t' {
					continue
				}
				if text == nil {
					text, _ = pass.ReadFile(pass.Fset.File(f.FileStart).Name())
				}
				l.add(comment, group, strings.TrimSpace(reason), text)
			}
		}
	}
	return l
}

// add adds a comment. If it has a line of its own, it is for the line below its group.
func (l *List) add(comment *ast.Comment, group *ast.CommentGroup, reason string, text []byte) {
	at := l.fset.Position(comment.Pos())
	line := at.Line
	before := text[:min(l.fset.PositionFor(comment.Pos(), false).Offset, len(text))]
	before = before[strings.LastIndexByte(string(before), '\n')+1:]
	if strings.TrimSpace(string(before)) == "" {
		line = l.fset.Position(group.End()).Line + 1
	}
	d := &Directive{Comment: comment, Reason: reason, file: at.Filename, line: line}
	l.directives = append(l.directives, d)
}

// All returns the directives in the order of the files.
func (l *List) All() []*Directive { return l.directives }

// Covers reports whether a directive suppresses what is reported at pos, and notes that
// the directive is used.
func (l *List) Covers(pos token.Pos) bool {
	at := l.fset.Position(pos)
	covered := false
	for _, d := range l.directives {
		if d.Reason != "" && d.line == at.Line && d.file == at.Filename {
			l.used[d.Comment.Pos()] = true
			covered = true
		}
	}
	return covered
}

// Used returns the directives that have suppressed a report.
func (l *List) Used() Used { return l.used }
