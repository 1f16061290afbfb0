package dials

import (
	"go/ast"
	"go/token"
	"go/types"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/ast/edge"
	"golang.org/x/tools/go/ast/inspector"
)

// A plan is what switches a dialer: the names net.Dialer to replace by those of
// safedial's, and the edits of other expressions. If reason is not empty, the dialer
// is left.
type plan struct {
	reason string
	types  []ast.Node
	edits  []analysis.TextEdit
	silent bool // the dialer is another place's to report
}

func left(reason string) plan { return plan{reason: reason} }

// dialerType checks the place where the name net.Dialer makes a dialer: a literal,
// new, or a declaration.
func (c *checker) dialerType(cur inspector.Cursor) {
	name := qualified(cur)
	p := c.dialerPlan(name)
	_, isSelector := name.Node().(*ast.SelectorExpr)
	switch {
	case p.silent:
	case !isSelector:
		c.leave(name.Node(), "net.Dialer", dotReason)
	case p.reason != "":
		c.leave(name.Node(), "net.Dialer", p.reason)
	default:
		c.fixDialer(name, p)
	}
}

func (c *checker) dialerPlan(name inspector.Cursor) plan {
	t := unparen(name)
	kind, i := t.ParentEdge()
	switch kind {
	case edge.CompositeLit_Type:
		return c.made(t.Parent(), false, name.Node())
	case edge.CallExpr_Args:
		call := t.Parent()
		if c.isBuiltin(call.Node().(*ast.CallExpr).Fun, "new") && i == 0 {
			return c.made(call, true, name.Node())
		}
	case edge.ValueSpec_Type:
		spec := t.Parent().Node().(*ast.ValueSpec)
		if len(spec.Names) != 1 {
			return left("it is declared with others")
		}
		return c.follow(c.variable(spec.Names[0]))
	case edge.Field_Type:
		return c.fieldPlan(t)
	case edge.TypeSpec_Type:
		return left("a type is defined by it")
	case edge.ArrayType_Elt, edge.MapType_Value:
		return left("it is an element")
	}
	return plan{silent: true} // a pointer, a conversion: the dialer is made elsewhere
}

// fieldPlan is the plan of a field, a parameter or a result of type net.Dialer.
func (c *checker) fieldPlan(t inspector.Cursor) plan {
	field := t.Parent().Node().(*ast.Field)
	list := t.Parent().Parent()
	if list.ParentEdgeKind() != edge.StructType_Fields {
		return plan{silent: true}
	}
	switch len(field.Names) {
	case 0:
		return left("it is embedded, so that its methods are the struct's")
	case 1:
		return c.follow(c.variable(field.Names[0]))
	}
	return left("it is declared with others")
}

// made is the plan of a dialer that an expression makes: net.Dialer{}, or, if
// pointer, new(net.Dialer).
func (c *checker) made(e inspector.Cursor, pointer bool, name ast.Node) plan {
	e = unparen(e)
	if !pointer && e.ParentEdgeKind() == edge.UnaryExpr_X && e.Parent().Node().(*ast.UnaryExpr).Op == token.AND {
		pointer = true
		e = unparen(e.Parent())
	}
	if e.ParentEdgeKind() == edge.SelectorExpr_X {
		if c.harmlessCall(e.Parent()) {
			return plan{silent: true}
		}
		return plan{types: []ast.Node{name}}
	}
	if v := c.assignedTo(e); v != nil && v.Pkg() == c.Pkg && (isDialerPointer(v.Type()) || isType(v.Type(), "net", "Dialer")) {
		return c.follow(v)
	}
	return c.handOver(e, pointer, name)
}

// handOver is the plan of an expression that makes a dialer for its context.
func (c *checker) handOver(e inspector.Cursor, pointer bool, name ast.Node) plan {
	want := c.expected(e)
	if e.ParentEdgeKind() == edge.ReturnStmt_Results && !isMethods(want) {
		return left("it is returned, and its fields may be set elsewhere")
	}
	switch {
	case want == nil || !pointer:
		return left(unknownReason)
	case isDialerPointer(want):
		edits := []analysis.TextEdit{insert(e.Node().End(), ".NetDialer()")}
		if _, ok := e.Node().(*ast.UnaryExpr); ok {
			before := insert(e.Node().Pos(), "(")
			edits = []analysis.TextEdit{before, insert(e.Node().End(), ").NetDialer()")}
		}
		return plan{types: []ast.Node{name}, edits: edits}
	case isMethods(want):
		return plan{types: []ast.Node{name}}
	}
	return left(unknownReason)
}

// isMethods reports whether t is an interface that has methods: those of net.Dialer
// are safedial.Dialer's too.
func isMethods(t types.Type) bool {
	if t == nil {
		return false
	}
	i, ok := t.Underlying().(*types.Interface)
	return ok && i.NumMethods() > 0
}

// harmlessCall reports whether a selector is the method of a dialer, called for a Unix
// or an IP network.
func (c *checker) harmlessCall(sel inspector.Cursor) bool {
	method := sel.Node().(*ast.SelectorExpr).Sel.Name
	fun := unparen(sel)
	if method == "DialUnix" || method == "DialIP" {
		return true
	}
	if fun.ParentEdgeKind() != edge.CallExpr_Fun {
		return false
	}
	call := fun.Parent().Node().(*ast.CallExpr)
	return method == "Dial" && c.harmlessNetwork(call, 0) ||
		method == "DialContext" && c.harmlessNetwork(call, 1)
}

// fixDialer reports a dialer with the edits that switch it.
func (c *checker) fixDialer(name inspector.Cursor, p plan) {
	var edits []analysis.TextEdit
	seen := make(map[*ast.File]bool)
	for _, t := range p.types {
		pkg, imports, ok := c.importSafedial(t.Pos())
		if !ok {
			c.leave(name.Node(), "net.Dialer", shadowReason)
			return
		}
		if f := c.file(t.Pos()); !seen[f] {
			seen[f] = true
			edits = append(edits, imports...)
		}
		edits = append(edits, replace(t, pkg+".Dialer"))
	}
	if len(p.types) == 0 {
		c.leave(name.Node(), "net.Dialer", unknownReason)
		return
	}
	c.fix(name.Node(), "net.Dialer", "Replace net.Dialer with safedial.Dialer", append(edits, p.edits...))
}
