package dials

import (
	"go/ast"
	"go/types"
	"slices"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/ast/edge"
	"golang.org/x/tools/go/ast/inspector"
)

// transportFields are the dial functions of an http.Transport.
var transportFields = []string{"DialContext", "Dial", "DialTLSContext", "DialTLS"}

// literal checks the composite literals of structs that dial.
func (c *checker) literal(cur inspector.Cursor, lit *ast.CompositeLit) {
	named, ok := types.Unalias(elem(c.TypesInfo.TypeOf(lit))).(*types.Named)
	if !ok || named.Obj().Pkg() == nil {
		return
	}
	what := named.Obj().Pkg().Name() + "." + named.Obj().Name()
	switch named.Obj().Pkg().Path() + "." + named.Obj().Name() {
	case "crypto/tls.Dialer":
		c.tlsDialer(cur, lit)
	case "net/http.Transport":
		c.transport(cur, lit)
	case "net/http.Client", "net/http/httputil.ReverseProxy":
		if !c.has(cur, lit, "Transport") {
			c.usesDefault(lit, what)
		}
	default:
		lib := libraryOf(named.Obj())
		if lib != nil && !unkeyed(lit) && !c.has(cur, lit, lib.cures...) {
			c.library(cur, lit, lib, named.Obj(), nil)
		}
	}
}

// unkeyed reports whether a literal sets all fields of its struct.
func unkeyed(lit *ast.CompositeLit) bool {
	if len(lit.Elts) == 0 {
		return false
	}
	_, keyed := lit.Elts[0].(*ast.KeyValueExpr)
	return !keyed
}

// tlsDialer gives a tls.Dialer a NetDialer if it has none.
func (c *checker) tlsDialer(cur inspector.Cursor, lit *ast.CompositeLit) {
	if c.has(cur, lit, "NetDialer") {
		return
	}
	pkg, edits, ok := c.importSafedial(lit.Pos())
	if !ok {
		c.leave(lit, "tls.Dialer", shadowReason)
		return
	}
	c.fix(lit, "tls.Dialer", "Set NetDialer to the result of NetDialer of a safedial.Dialer",
		append(edits, c.addField(lit, "NetDialer: (&"+pkg+".Dialer{}).NetDialer()")))
}

// transport gives an http.Transport a DialContext if it has no dial function and
// if that does not turn HTTP/2 off.
func (c *checker) transport(cur inspector.Cursor, lit *ast.CompositeLit) {
	if c.has(cur, lit, transportFields...) {
		return
	}
	if !c.keepsHTTP2(lit) {
		c.leave(lit, "http.Transport", "a DialContext turns off HTTP/2; set ForceAttemptHTTP2 too")
		return
	}
	pkg, edits, ok := c.importSafedial(lit.Pos())
	if !ok {
		c.leave(lit, "http.Transport", shadowReason)
		return
	}
	c.fix(lit, "http.Transport", "Set DialContext to safedial.DialContext",
		append(edits, c.addField(lit, "DialContext: "+pkg+".DialContext")))
}

// keepsHTTP2 reports whether a transport's support for HTTP/2 does not depend on
// DialContext: it is demanded, or it is off already.
func (c *checker) keepsHTTP2(lit *ast.CompositeLit) bool {
	for _, elt := range lit.Elts {
		kv, ok := elt.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		value := ast.Unparen(kv.Value)
		switch kv.Key.(*ast.Ident).Name {
		case "ForceAttemptHTTP2":
			if v := c.TypesInfo.Types[value].Value; v != nil && v.String() == "true" {
				return true
			}
		case "TLSClientConfig", "TLSNextProto", "Protocols":
			if c.neverNil(value) {
				return true
			}
		}
	}
	return false
}

// neverNil reports whether an expression is a literal, or a call of make or new.
func (c *checker) neverNil(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.CompositeLit:
		return true
	case *ast.UnaryExpr:
		_, ok := ast.Unparen(e.X).(*ast.CompositeLit)
		return ok
	case *ast.CallExpr:
		return c.isBuiltin(e.Fun, "make", "new")
	}
	return false
}

// has reports whether the literal sets one of the fields, or the variable that it
// is assigned to has one of them set.
func (c *checker) has(cur inspector.Cursor, lit *ast.CompositeLit, fields ...string) bool {
	if unkeyed(lit) {
		return true
	}
	for _, elt := range lit.Elts {
		if slices.Contains(fields, elt.(*ast.KeyValueExpr).Key.(*ast.Ident).Name) {
			return true
		}
	}
	cur = unparen(cur)
	if cur.ParentEdgeKind() == edge.UnaryExpr_X {
		cur = unparen(cur.Parent())
	}
	return c.setLater(cur, fields...)
}

// setLater reports whether an expression is assigned to a variable or a field of
// which one of the fields is assigned.
func (c *checker) setLater(cur inspector.Cursor, fields ...string) bool {
	v := c.assignedTo(cur)
	if v == nil {
		return false
	}
	for _, use := range c.uses[v.Origin()] {
		n := qualified(use)
		if n.ParentEdgeKind() != edge.SelectorExpr_X || n.Parent().ParentEdgeKind() != edge.AssignStmt_Lhs {
			continue
		}
		if slices.Contains(fields, n.Parent().Node().(*ast.SelectorExpr).Sel.Name) {
			return true
		}
	}
	return false
}

// addField adds a field to a literal, before the others.
func (c *checker) addField(lit *ast.CompositeLit, field string) analysis.TextEdit {
	switch {
	case len(lit.Elts) == 0:
		return insert(lit.Lbrace+1, field)
	case c.Fset.Position(lit.Lbrace).Line == c.Fset.Position(lit.Elts[0].Pos()).Line:
		return insert(lit.Lbrace+1, field+", ")
	}
	return insert(lit.Elts[0].Pos(), field+",\n")
}
