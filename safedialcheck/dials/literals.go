package dials

import (
	"go/ast"
	"go/types"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/ast/edge"
	"golang.org/x/tools/go/ast/inspector"
)

// literal checks the composite literals of structs that dial.
func (c *checker) literal(cur inspector.Cursor, lit *ast.CompositeLit) {
	named, ok := types.Unalias(c.TypesInfo.TypeOf(lit)).(*types.Named)
	if !ok || named.Obj().Pkg() == nil {
		return
	}
	name := named.Obj().Pkg().Path() + "." + named.Obj().Name()
	what := named.Obj().Pkg().Name() + "." + named.Obj().Name()
	switch name {
	case "crypto/tls.Dialer":
		c.tlsDialer(cur, lit)
	case "net/http.Transport":
		c.transport(cur, lit)
	case "net/http.Client", "net/http/httputil.ReverseProxy":
		if !c.sets(cur, lit, "Transport") {
			c.leave(lit, what, "without a Transport it uses http.DefaultTransport; "+mainAdvice)
		}
	default:
		known, ok := clients[name]
		if !ok || c.sets(cur, lit, known.dialFields...) {
			return
		}
		reason := "it dials by itself; " + known.advice
		if known.tls != "" && c.sets(cur, lit, known.tls) {
			reason += ", which must do TLS by itself because " + known.tls + " is not used then"
		}
		c.leave(lit, what, reason)
	}
}

// tlsDialer gives a tls.Dialer a NetDialer if it has none.
func (c *checker) tlsDialer(cur inspector.Cursor, lit *ast.CompositeLit) {
	if c.sets(cur, lit, "NetDialer") {
		return
	}
	pkg, edits, ok := c.importSafedial(lit.Pos())
	if !ok {
		c.leave(lit, "tls.Dialer", shadowReason)
		return
	}
	c.fix(lit, "tls.Dialer", "Set NetDialer to the result of NetDialer of a safedial.Dialer",
		append(edits, c.addField(lit, "NetDialer: new("+pkg+".Dialer).NetDialer()")))
}

// transport gives an http.Transport a DialContext if it has no dial function and
// if that does not turn HTTP/2 off.
func (c *checker) transport(cur inspector.Cursor, lit *ast.CompositeLit) {
	if c.sets(cur, lit, "DialContext", "Dial", "DialTLSContext", "DialTLS") {
		return
	}
	if !c.keepsHTTP2(cur, lit) {
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
func (c *checker) keepsHTTP2(_ inspector.Cursor, lit *ast.CompositeLit) bool {
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
			if neverNil(value) {
				return true
			}
		}
	}
	return false
}

// neverNil reports whether an expression is a literal, or a call of make or new.
func neverNil(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.CompositeLit:
		return true
	case *ast.UnaryExpr:
		_, ok := ast.Unparen(e.X).(*ast.CompositeLit)
		return ok
	case *ast.CallExpr:
		id, ok := e.Fun.(*ast.Ident)
		return ok && (id.Name == "make" || id.Name == "new")
	}
	return false
}

// sets reports whether the literal sets one of the fields, or the variable that it
// is assigned to has one of them set.
func (c *checker) sets(cur inspector.Cursor, lit *ast.CompositeLit, fields ...string) bool {
	if len(lit.Elts) > 0 {
		if _, keyed := lit.Elts[0].(*ast.KeyValueExpr); !keyed {
			return true // it sets all of them
		}
	}
	for _, elt := range lit.Elts {
		key := elt.(*ast.KeyValueExpr).Key.(*ast.Ident)
		for _, name := range fields {
			if key.Name == name {
				return true
			}
		}
	}
	if cur.ParentEdgeKind() == edge.UnaryExpr_X {
		cur = cur.Parent()
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
		for _, name := range fields {
			if n.Parent().Node().(*ast.SelectorExpr).Sel.Name == name {
				return true
			}
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
