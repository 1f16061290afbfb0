package dials

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/ast/edge"
	"golang.org/x/tools/go/ast/inspector"
)

// mainAdvice names the line that switches http.DefaultTransport, with the Timeout and
// the KeepAlive that net/http dials with.
const mainAdvice = "http.DefaultTransport.(*http.Transport).DialContext = " +
	"(&safedial.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext"

// mostPlaces is how many uses of http.DefaultTransport a report of main names.
const mostPlaces = 3

// transports is the fact that a package, or one that it imports, uses
// http.DefaultTransport or sets what it dials with.
type transports struct {
	Places   []string // the first uses
	Switched bool
}

// AFact marks transports as a fact.
func (*transports) AFact() {}

func (t *transports) String() string {
	return fmt.Sprintf("transports %s %t", strings.Join(t.Places, ", "), t.Switched)
}

// exportTransports tells the packages that import this one of its transports, and adds
// those of the packages that it imports to its own.
func (c *checker) exportTransports() {
	for _, imported := range c.Pkg.Imports() {
		var t transports
		if c.ImportPackageFact(imported, &t) {
			c.places = append(c.places, t.Places...)
			c.switched = c.switched || t.Switched
		}
	}
	slices.Sort(c.places)
	c.places = slices.Compact(c.places)
	c.places = c.places[:min(len(c.places), mostPlaces)]
	if len(c.places) > 0 || c.switched {
		c.ExportPackageFact(&transports{Places: c.places, Switched: c.switched})
	}
}

// defaultTransport checks a use of http.DefaultTransport.
func (c *checker) defaultTransport(cur inspector.Cursor, what string) {
	n := unparen(qualified(cur))
	report := n.Node()
	for {
		switch n.ParentEdgeKind() {
		case edge.AssignStmt_Lhs:
			return // it becomes another transport, or dials otherwise
		case edge.TypeAssertExpr_X, edge.ParenExpr_X, edge.CallExpr_Fun:
			n = n.Parent()
			continue
		case edge.SelectorExpr_X:
			if n.Parent().Node().(*ast.SelectorExpr).Sel.Name == "CloseIdleConnections" {
				return
			}
			n = n.Parent()
			continue
		}
		break
	}
	if c.setLater(n, "DialContext", "Dial", "Transport") {
		return
	}
	call, ok := n.Node().(*ast.CallExpr)
	if ok && early(n) && strings.HasSuffix(types.ExprString(call.Fun), ".Clone") {
		c.leave(report, what,
			"it is copied before main can set its DialContext; set that of the copy")
		return
	}
	c.usesDefault(report, what)
}

// early reports whether an expression is evaluated before main, for a variable of the
// package.
func early(e inspector.Cursor) bool {
	for range e.Enclosing((*ast.FuncDecl)(nil), (*ast.FuncLit)(nil)) {
		return false
	}
	return true
}

// usesDefault notes a use of http.DefaultTransport, which a line in main cures. In a test
// file, it reports the use if the package does not have the line.
func (c *checker) usesDefault(n ast.Node, what string) {
	at := c.Fset.Position(n.Pos())
	if strings.HasSuffix(at.Filename, "_test.go") {
		if !c.switched {
			c.leave(n, what,
				"it uses http.DefaultTransport; a line in TestMain switches it: "+mainAdvice)
		}
		return
	}
	path := c.Pkg.Path()
	if path == "net/http" || strings.HasPrefix(path, "net/http/") || c.ignored.Covers(n.Pos()) {
		return
	}
	file := filepath.Base(at.Filename)
	c.places = append(c.places, fmt.Sprintf("%s in %s/%s:%d", what, path, file, at.Line))
}

// mainFuncs checks the functions main of a program.
func (c *checker) mainFuncs() {
	if c.Pkg.Name() != "main" || c.switched {
		return
	}
	for _, file := range c.Files {
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if ok && f.Recv == nil && f.Name.Name == "main" && f.Body != nil && !c.generated(file) {
				c.mainFunc(f)
			}
		}
	}
}

// mainFunc reports main if the program uses http.DefaultTransport. With
// -defaulttransport, every main is given the line that switches it.
func (c *checker) mainFunc(f *ast.FuncDecl) {
	if !inMain {
		if len(c.places) > 0 {
			places := strings.Join(c.places, ", ")
			c.leave(f.Name, "http.DefaultTransport", "the program uses it ("+places+
				"); a line in main switches it: "+mainAdvice+" (-dials.defaulttransport adds it)")
		}
		return
	}
	pos := f.Body.Lbrace + 1
	safedial, edits, ok := c.importName(safedialPath, "safedial", pos)
	http, httpEdits, httpOK := c.importName("net/http", "http", pos)
	time, timeEdits, timeOK := c.importName("time", "time", pos)
	if !ok || !httpOK || !timeOK {
		c.leave(f.Name, "http.DefaultTransport", shadowReason)
		return
	}
	line := fmt.Sprintf("%s.DefaultTransport.(*%[1]s.Transport).DialContext = "+
		"(&%s.Dialer{Timeout: 30 * %s.Second, KeepAlive: 30 * %[3]s.Second}).DialContext\n",
		http, safedial, time)
	if len(f.Body.List) > 0 {
		pos = f.Body.List[0].Pos()
	}
	c.fix(f.Name, "http.DefaultTransport", "Set DialContext of http.DefaultTransport",
		slices.Concat(edits, httpEdits, timeEdits, []analysis.TextEdit{insert(pos, line)}))
}

// switchesDefault reports whether the package assigns http.DefaultTransport or its
// dial function.
func (c *checker) switchesDefault() bool {
	for v, uses := range c.uses {
		if isNamed(v, "net/http", "DefaultTransport") && slices.ContainsFunc(uses, c.switches) {
			return true
		}
	}
	return false
}

// switches reports whether a use of http.DefaultTransport sets it or its dial function.
func (c *checker) switches(use inspector.Cursor) bool {
	n := qualified(use)
	for {
		switch n.ParentEdgeKind() {
		case edge.AssignStmt_Lhs:
			return true
		case edge.TypeAssertExpr_X, edge.ParenExpr_X:
			n = n.Parent()
			continue
		case edge.SelectorExpr_X:
			if !slices.Contains(transportFields, n.Parent().Node().(*ast.SelectorExpr).Sel.Name) {
				return false
			}
			n = n.Parent()
			continue
		}
		return c.setLater(n, transportFields...)
	}
}

// line returns the file and the line of a position.
func (c *checker) line(pos token.Pos) string {
	at := c.Fset.Position(pos)
	return fmt.Sprintf("%s:%d", at.Filename, at.Line)
}
