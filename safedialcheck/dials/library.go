package dials

import (
	"go/ast"
	"go/types"
	"slices"
	"strings"

	"golang.org/x/tools/go/ast/edge"
	"golang.org/x/tools/go/ast/inspector"
)

// library checks a use of a function, a type or a variable that dials by itself: whether
// what is made of it, or what it is made with, has a dialer. The call may be nil.
func (c *checker) library(
	cur inspector.Cursor, n ast.Node, lib *library, obj types.Object, call *ast.CallExpr,
) {
	if lib.silent != nil && call != nil && lib.silent(c, call) {
		return
	}
	whole := cur
	if _, isFunc := obj.(*types.Func); isFunc {
		_, whole = callOf(cur)
	} else if _, isVar := obj.(*types.Var); isVar {
		whole = qualified(cur)
	}
	if c.cured(whole, lib.cures) {
		return
	}
	what := obj.Pkg().Name() + "." + obj.Name()
	if lib.defaultTransport {
		c.usesDefault(n, what)
		return
	}
	c.leave(n, what, c.reason(whole, lib, call))
}

// reason says how to make a library dial with safedial. With TLS, some need other lines:
// the plain ones would send in clear what TLS would encrypt.
func (c *checker) reason(whole inspector.Cursor, lib *library, call *ast.CallExpr) string {
	if lib.advice != "" {
		return lib.advice
	}
	own := "it dials by itself; "
	if lib.tls == nil {
		return own + advice(lib.row)
	}
	withTLS := advice(lib.row + " with TLS")
	switch {
	case c.cured(whole, lib.tls):
		return own + withTLS
	case lib.tlsInText && call != nil && !c.plain(call):
		return own + advice(lib.row) + "; but if it uses TLS, " + withTLS
	}
	return own + advice(lib.row)
}

// plain reports whether the first argument of a call is a constant URL without TLS.
func (c *checker) plain(call *ast.CallExpr) bool {
	if len(call.Args) == 0 {
		return true
	}
	url, ok := c.text(call.Args[0])
	return ok && strings.HasPrefix(url, "redis:")
}

// zero checks a type of which a variable, a field or new makes a zero value.
func (c *checker) zero(cur inspector.Cursor, obj *types.TypeName) {
	if obj.Pkg() == nil || obj.Pkg() == c.Pkg {
		return
	}
	made, report := c.zeroValue(cur)
	if made == nil {
		return
	}
	what := obj.Pkg().Name() + "." + obj.Name()
	switch obj.Pkg().Path() + "." + obj.Name() {
	case "crypto/tls.Dialer":
		if !made("NetDialer") {
			c.leave(report, what, "a zero one dials by itself; set NetDialer to d.NetDialer()")
		}
	case "net/http.Transport":
		if !made(transportFields...) {
			c.leave(report, what,
				"a zero one dials by itself; set DialContext, and ForceAttemptHTTP2 too")
		}
	case "net/http.Client", "net/http/httputil.ReverseProxy":
		if !made("Transport") {
			c.usesDefault(report, what)
		}
	default:
		if lib := libraryOf(obj); lib != nil && !made(lib.cures...) {
			reason := "it dials by itself; " + advice(lib.row)
			if lib.advice != "" {
				reason = lib.advice
			}
			if lib.tls != nil && made(lib.tls...) {
				reason = "it dials by itself; " + advice(lib.row+" with TLS")
			}
			c.leave(report, what, reason)
		}
	}
}

// zeroValue returns the place where a type's name makes a zero value, and a function that
// reports whether one of the fields is set then. The function is nil if there is none.
func (c *checker) zeroValue(cur inspector.Cursor) (made func(...string) bool, report ast.Node) {
	t := unparen(qualified(cur))
	kind, i := t.ParentEdge()
	switch kind {
	case edge.CallExpr_Args:
		if call := t.Parent(); i == 0 && c.isBuiltin(call.Node().(*ast.CallExpr).Fun, "new") {
			return func(names ...string) bool { return c.cured(call, names) }, call.Node()
		}
	case edge.ValueSpec_Type:
		if spec := t.Parent().Node().(*ast.ValueSpec); len(spec.Values) == 0 {
			return c.namesSet(spec.Names), t.Node()
		}
	case edge.Field_Type:
		list := t.Parent().Parent()
		names := t.Parent().Node().(*ast.Field).Names
		if list.ParentEdgeKind() == edge.StructType_Fields && len(names) > 0 {
			if c.assignedAnywhere(names) {
				return nil, nil // what it is assigned is checked by itself
			}
			return c.namesSet(names), t.Node()
		}
	}
	return nil, nil
}

// assignedAnywhere reports whether one of the fields is set as a whole.
func (c *checker) assignedAnywhere(names []*ast.Ident) bool {
	for _, name := range names {
		v, _ := c.TypesInfo.Defs[name].(*types.Var)
		if v == nil || v.Exported() || c.unkeyed[v.Origin()] {
			return true
		}
		for _, use := range c.uses[v.Origin()] {
			switch unparen(qualified(use)).ParentEdgeKind() {
			case edge.AssignStmt_Lhs, edge.KeyValueExpr_Key:
				return true
			}
		}
	}
	return false
}

// namesSet reports whether each of the variables has one of the fields set.
func (c *checker) namesSet(names []*ast.Ident) func(...string) bool {
	return func(fields ...string) bool {
		for _, name := range names {
			if v, ok := c.TypesInfo.Defs[name].(*types.Var); ok && !c.sets(v, fields) {
				return false
			}
		}
		return true
	}
}

// cured reports whether an expression has one of the names that give a dialer: an
// argument or an element of it, a method called on it, or a use of the variable that it
// is assigned to.
func (c *checker) cured(e inspector.Cursor, names []string) bool {
	if expr, ok := e.Node().(ast.Expr); ok && c.mentions(expr, names) {
		return true
	}
	for {
		switch e.ParentEdgeKind() {
		case edge.ParenExpr_X, edge.StarExpr_X, edge.UnaryExpr_X, edge.CallExpr_Fun:
			e = e.Parent()
			continue
		case edge.SelectorExpr_X:
			if slices.Contains(names, e.Parent().Node().(*ast.SelectorExpr).Sel.Name) {
				return true
			}
			e = e.Parent()
			continue
		}
		break
	}
	v := c.assignedTo(e)
	return v != nil && c.sets(v, names)
}

// mentions reports whether the arguments or the elements of an expression have one of the
// names, or a variable that is assigned one. A list of options that comes from elsewhere
// has it if the package mentions the name.
func (c *checker) mentions(e ast.Expr, names []string) bool {
	var parts []ast.Expr
	spread := false
	switch e := e.(type) {
	case *ast.CallExpr:
		parts, spread = e.Args, e.Ellipsis.IsValid()
	case *ast.CompositeLit:
		parts = e.Elts
	}
	for _, part := range parts {
		if named(part, names) {
			return true
		}
		if u, ok := part.(*ast.UnaryExpr); ok {
			part = u.X
		}
		if v := c.variable(part); v != nil && c.sets(v, names) {
			return true
		}
	}
	return spread && c.namesAnywhere(names...)
}

// sets reports whether a use of the variable has one of the names: a field or a method of
// it, or what it is assigned.
func (c *checker) sets(v *types.Var, names []string) bool {
	for _, use := range c.uses[v.Origin()] {
		n := unparen(qualified(use))
		kind, i := n.ParentEdge()
		var value ast.Expr
		switch kind {
		case edge.AssignStmt_Lhs:
			if assign := n.Parent().Node().(*ast.AssignStmt); i < len(assign.Rhs) {
				value = assign.Rhs[i]
			}
		case edge.ValueSpec_Names:
			if spec := n.Parent().Node().(*ast.ValueSpec); i < len(spec.Values) {
				value = spec.Values[i]
			}
		}
		if value != nil && named(value, names) {
			return true
		}
		for n.ParentEdgeKind() == edge.SelectorExpr_X {
			n = n.Parent()
			if slices.Contains(names, n.Node().(*ast.SelectorExpr).Sel.Name) {
				return true
			}
		}
	}
	return false
}

// named reports whether an expression has one of the names in it.
func named(e ast.Expr, names []string) bool {
	found := false
	ast.Inspect(e, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			found = found || slices.Contains(names, id.Name)
		}
		return !found
	})
	return found
}

// namesAnywhere reports whether the package uses a function or a field of another package
// that has one of the names.
func (c *checker) namesAnywhere(names ...string) bool {
	for id, obj := range c.TypesInfo.Uses {
		if obj.Pkg() != c.Pkg && slices.Contains(names, id.Name) {
			return true
		}
	}
	return false
}
