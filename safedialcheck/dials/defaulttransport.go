package dials

import (
	"fmt"
	"go/ast"
	"go/types"
	"slices"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/ast/edge"
	"golang.org/x/tools/go/ast/inspector"
)

// mainAdvice names the line that switches http.DefaultTransport, with the Timeout and
// the KeepAlive that net/http dials with.
const mainAdvice = "a line in main switches it: http.DefaultTransport.(*http.Transport).DialContext = " +
	"(&safedial.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext"

// defaultTransport reports a use of http.DefaultTransport, unless it sets the
// transport's dial function.
func (c *checker) defaultTransport(cur inspector.Cursor, what string) {
	n := qualified(cur)
	report := n.Node()
	if n.ParentEdgeKind() == edge.AssignStmt_Lhs {
		return // it becomes another transport
	}
	for {
		switch n.ParentEdgeKind() {
		case edge.TypeAssertExpr_X, edge.ParenExpr_X, edge.CallExpr_Fun:
			n = n.Parent()
			continue
		case edge.SelectorExpr_X:
			sel := n.Parent().Node().(*ast.SelectorExpr)
			if sel.Sel.Name == "DialContext" || sel.Sel.Name == "CloseIdleConnections" {
				return
			}
			n = n.Parent()
			continue
		}
		break
	}
	if !c.setLater(n, "DialContext", "Dial", "Transport") {
		c.leave(report, what, "it uses http.DefaultTransport; "+mainAdvice)
	}
}

// mainFunc offers the line for http.DefaultTransport in main, if the package or what
// it uses of others imports net/http. With -defaulttransport, it is every main's fix.
func (c *checker) mainFunc(f *ast.FuncDecl) {
	if c.Pkg.Name() != "main" || f.Recv != nil || f.Name.Name != "main" || f.Body == nil || c.switchesDefault() {
		return
	}
	if !inMain {
		if !importsHTTP(c.Pkg) {
			return
		}
		c.leave(f.Name, "http.DefaultTransport", "packages of this program may use it; "+mainAdvice+" (-defaulttransport adds it)")
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
	line := fmt.Sprintf("%s.DefaultTransport.(*%[1]s.Transport).DialContext = (&%s.Dialer{Timeout: 30 * %s.Second, KeepAlive: 30 * %[3]s.Second}).DialContext\n", http, safedial, time)
	if len(f.Body.List) > 0 {
		pos = f.Body.List[0].Pos()
	}
	c.fix(f.Name, "http.DefaultTransport", "Set DialContext of http.DefaultTransport",
		slices.Concat(edits, httpEdits, timeEdits, []analysis.TextEdit{insert(pos, line)}))
}

// importsHTTP reports whether the package or one that it imports imports net/http.
func importsHTTP(pkg *types.Package) bool {
	seen := make(map[*types.Package]bool)
	var visit func(p *types.Package) bool
	visit = func(p *types.Package) bool {
		if seen[p] {
			return false
		}
		seen[p] = true
		if p.Path() == "net/http" {
			return true
		}
		for _, imported := range p.Imports() {
			if visit(imported) {
				return true
			}
		}
		return false
	}
	return visit(pkg)
}

// switchesDefault reports whether the package assigns http.DefaultTransport or its
// dial function.
func (c *checker) switchesDefault() bool {
	for v, uses := range c.uses {
		if !isNamed(v, "net/http", "DefaultTransport") {
			continue
		}
		for _, use := range uses {
			n := qualified(use)
			for {
				kind := n.ParentEdgeKind()
				if kind == edge.AssignStmt_Lhs {
					return true
				}
				if kind != edge.TypeAssertExpr_X && kind != edge.ParenExpr_X && kind != edge.SelectorExpr_X {
					break
				}
				n = n.Parent()
			}
		}
	}
	return false
}
