package dials

import (
	"go/ast"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/ast/edge"
	"golang.org/x/tools/go/ast/inspector"
)

// A follower goes through the uses of a variable or a field that holds a dialer.
type follower struct {
	*checker
	v        *types.Var
	plan     plan
	handed   token.Pos // where it is first passed on as a *net.Dialer
	written  token.Pos // where one of its fields is last set
	dials    int       // method calls
	harmless int       // those to Unix and IP networks
	mayBeNil bool
}

// follow is the plan of a variable or a field of type net.Dialer or *net.Dialer: to
// change its type, if all of its uses allow that.
func (c *checker) follow(v *types.Var) plan {
	switch {
	case v == nil:
		return left(unknownReason)
	case v.Kind() == types.ParamVar || v.Kind() == types.RecvVar || v.Kind() == types.ResultVar:
		return left("it is assigned to a parameter or a result")
	case v.Exported() && c.Pkg.Name() != "main" && (v.IsField() || v.Parent() == c.Pkg.Scope()):
		return left("an exported " + kindOf(v) + " is part of the package's API")
	case c.unkeyed[v.Origin()]:
		return left("a literal sets the field without its name")
	case v.Parent() == c.Pkg.Scope() || v.IsField():
		if file := c.otherFile(v.Name()); file != "" {
			return left("it may be used in " + file + ", which is not checked here")
		}
	}
	f := &follower{checker: c, v: v, mayBeNil: isDialerPointer(v.Type()) && v.IsField()}
	for _, use := range c.uses[v.Origin()] {
		f.use(use)
		if f.plan.reason != "" {
			return f.plan
		}
	}
	switch {
	case f.dials > 0 && f.dials == f.harmless:
		return plan{silent: true}
	case f.handed.IsValid() && f.written > f.handed:
		return left("its fields are set after it is passed on")
	case f.handed.IsValid() && f.mayBeNil:
		return left("it is passed on, and may be nil")
	}
	return f.plan
}

func kindOf(v *types.Var) string {
	if v.IsField() {
		return "field"
	}
	return "variable"
}

// use goes on with one identifier of the variable.
func (f *follower) use(id inspector.Cursor) {
	e := unparen(qualified(id))
	kind, i := e.ParentEdge()
	switch kind {
	case edge.ValueSpec_Names:
		f.declared(e.Parent().Node().(*ast.ValueSpec), i)
	case edge.Field_Names:
		f.declaredType(e.Parent().Node().(*ast.Field).Type)
	case edge.AssignStmt_Lhs:
		assign := e.Parent().Node().(*ast.AssignStmt)
		if len(assign.Lhs) != len(assign.Rhs) {
			f.plan = left("it is assigned the result of a function")
			return
		}
		f.assigned(assign.Rhs[i])
	case edge.KeyValueExpr_Key:
		f.assigned(e.Parent().Node().(*ast.KeyValueExpr).Value)
	case edge.SelectorExpr_X:
		f.selected(e.Parent())
	case edge.UnaryExpr_X:
		if e.Parent().Node().(*ast.UnaryExpr).Op == token.AND {
			f.passed(unparen(e.Parent()), e)
			return
		}
		f.plan = left(unknownReason)
	case edge.BinaryExpr_X, edge.BinaryExpr_Y:
		f.mayBeNil = true // it is compared with nil
	default:
		f.passed(e, e)
	}
}

// declared notes the variable's declaration.
func (f *follower) declared(spec *ast.ValueSpec, i int) {
	if spec.Type != nil {
		if len(spec.Names) > 1 {
			f.plan = left("it is declared with others")
			return
		}
		f.declaredType(spec.Type)
	}
	if len(spec.Values) == 0 {
		f.mayBeNil = f.mayBeNil || isDialerPointer(f.v.Type())
		return
	}
	if len(spec.Values) != len(spec.Names) {
		f.plan = left("it is assigned the result of a function")
		return
	}
	f.assigned(spec.Values[i])
}

// declaredType notes the name net.Dialer in a declaration.
func (f *follower) declaredType(t ast.Expr) {
	t = ast.Unparen(t)
	if star, ok := t.(*ast.StarExpr); ok {
		t = ast.Unparen(star.X)
	}
	if !isType(f.TypesInfo.TypeOf(t), "net", "Dialer") {
		f.plan = left(unknownReason)
		return
	}
	f.plan.types = append(f.plan.types, t)
}

// assigned notes the name net.Dialer in what is assigned to the variable, which has
// to be a new dialer or nil.
func (f *follower) assigned(value ast.Expr) {
	value = ast.Unparen(value)
	if u, ok := value.(*ast.UnaryExpr); ok && u.Op == token.AND {
		value = ast.Unparen(u.X)
	}
	switch e := value.(type) {
	case *ast.CompositeLit:
		if e.Type != nil && isType(f.TypesInfo.TypeOf(e.Type), "net", "Dialer") {
			f.plan.types = append(f.plan.types, e.Type)
			return
		}
	case *ast.CallExpr:
		if f.isBuiltin(e.Fun, "new") && isType(f.TypesInfo.TypeOf(e.Args[0]), "net", "Dialer") {
			f.plan.types = append(f.plan.types, e.Args[0])
			return
		}
	case *ast.Ident:
		if f.TypesInfo.Types[e].IsNil() {
			f.mayBeNil = true
			return
		}
	}
	f.plan = left("it is assigned a dialer that is made elsewhere")
}

// selected notes a use of a method or a field.
func (f *follower) selected(sel inspector.Cursor) {
	if _, isField := f.TypesInfo.ObjectOf(sel.Node().(*ast.SelectorExpr).Sel).(*types.Var); !isField {
		f.dials++
		if f.harmlessCall(sel) {
			f.harmless++
		}
		return
	}
	if sel.ParentEdgeKind() == edge.AssignStmt_Lhs {
		f.written = max(f.written, sel.Node().Pos())
	}
}

// passed notes that e, which is the variable or its address, is passed on.
func (f *follower) passed(e, variable inspector.Cursor) {
	if e.ParentEdgeKind() == edge.SelectorExpr_X {
		f.selected(e.Parent())
		return
	}
	want := f.expected(e)
	pointer := e != variable || isDialerPointer(f.v.Type())
	switch {
	case pointer && e.ParentEdgeKind() == edge.ReturnStmt_Results && !isMethods(want):
		f.plan = left("it is returned, and its fields may be set elsewhere")
	case pointer && want != nil && isDialerPointer(want):
		if e.ParentEdgeKind() == edge.AssignStmt_Rhs || e.ParentEdgeKind() == edge.ValueSpec_Values {
			f.plan = left("it is assigned to another variable")
			return
		}
		if !f.handed.IsValid() || e.Node().Pos() < f.handed {
			f.handed = e.Node().Pos()
		}
		f.dials++
		if e != variable {
			f.plan.edits = append(f.plan.edits, replacePrefix(e, variable))
		}
		f.plan.edits = append(f.plan.edits, insert(e.Node().End(), ".NetDialer()"))
	case pointer && isMethods(want):
		f.dials++
	default:
		f.plan = left(unknownReason)
	}
}

// otherFile returns the name of a file in the package's folder that is not built here and
// has the word: one for another system, or one that imports "C", or a test.
func (c *checker) otherFile(word string) string {
	pattern := regexp.MustCompile(`\b` + regexp.QuoteMeta(word) + `\b`)
	built := make(map[string]bool)
	dirs := make(map[string]bool)
	for _, f := range c.Files {
		name := c.Fset.File(f.FileStart).Name()
		built[name] = true
		dirs[filepath.Dir(name)] = true
	}
	for dir := range dirs {
		others, _ := filepath.Glob(filepath.Join(dir, "*.go"))
		for _, name := range others {
			text, err := os.ReadFile(name)
			if !built[name] && err == nil && pattern.Match(text) {
				return filepath.Base(name)
			}
		}
	}
	return ""
}

// replacePrefix removes what stands between the start of e and the variable: "&".
func replacePrefix(e, variable inspector.Cursor) analysis.TextEdit {
	return analysis.TextEdit{Pos: e.Node().Pos(), End: variable.Node().Pos()}
}
