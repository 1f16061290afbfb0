package listenports

import (
	"go/ast"
	"go/types"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/ast/inspector"
	"golang.org/x/tools/go/types/typeutil"

	"github.com/safedial/safedial/safedialcheck/internal/ignore"
)

// A finder goes backwards from what a program listens on to constants.
type finder struct {
	*analysis.Pass
	ignored   *ignore.List
	values    map[*types.Var][]ast.Expr  // what the package assigns to variables, fields and parameters
	results   map[*types.Func][]ast.Expr // what its functions return first
	followed  map[*types.Var]bool
	checked   map[ast.Expr]bool
	generated map[*ast.File]bool
}

// listeners are the functions of the standard library that listen, with the index of
// the parameter that says where.
var listeners = map[string]int{
	"net.Listen":                       1,
	"net.ListenPacket":                 1,
	"net.ListenTCP":                    1,
	"net.ListenUDP":                    1,
	"(*net.ListenConfig).Listen":       2,
	"(*net.ListenConfig).ListenPacket": 2,
	"crypto/tls.Listen":                1,
	"net/http.ListenAndServe":          0,
	"net/http.ListenAndServeTLS":       0,
}

// listensOn reports whether the variable is where a listener of another package
// listens.
func (f *finder) listensOn(v *types.Var) bool {
	if v.Pkg() == f.Pkg {
		return false
	}
	if v.IsField() && v.Name() == "Addr" && v.Pkg() != nil && v.Pkg().Path() == "net/http" {
		return true // of Server: it is the only one
	}
	return f.ImportObjectFact(v, new(listens))
}

// index notes what is assigned to each variable, field and parameter, and starts
// from the calls that listen.
func (f *finder) index(root inspector.Cursor) {
	var calls []*ast.CallExpr
	for cur := range root.Preorder(
		(*ast.AssignStmt)(nil), (*ast.ValueSpec)(nil), (*ast.CompositeLit)(nil), (*ast.CallExpr)(nil),
		(*ast.RangeStmt)(nil), (*ast.ReturnStmt)(nil),
	) {
		switch n := cur.Node().(type) {
		case *ast.AssignStmt:
			f.assign(n.Lhs, n.Rhs)
		case *ast.ValueSpec:
			names := make([]ast.Expr, len(n.Names))
			for i, name := range n.Names {
				names[i] = name
			}
			f.assign(names, n.Values)
		case *ast.CompositeLit:
			f.literal(n)
		case *ast.CallExpr:
			f.arguments(n)
			calls = append(calls, n)
		case *ast.ReturnStmt:
			f.returned(cur, n)
		case *ast.RangeStmt:
			if n.Value != nil {
				f.add(f.variable(n.Value), n.X) // what holds for the elements holds for the whole
			}
		}
	}
	for _, call := range calls {
		if callee := typeutil.StaticCallee(f.TypesInfo, call); callee != nil {
			if i, ok := listeners[callee.FullName()]; ok && i < len(call.Args) {
				f.check(call.Args[i])
			}
		}
	}
}

func (f *finder) add(v *types.Var, value ast.Expr) {
	if v != nil {
		f.values[v.Origin()] = append(f.values[v.Origin()], value)
	}
}

// assign notes an assignment. Of the results of a function only the first can be an
// address.
func (f *finder) assign(to, values []ast.Expr) {
	for i, value := range values {
		if i < len(to) {
			f.add(f.variable(to[i]), value)
		}
	}
}

func (f *finder) literal(lit *ast.CompositeLit) {
	t := f.TypesInfo.TypeOf(lit)
	if p, ok := t.Underlying().(*types.Pointer); ok {
		t = p.Elem() // an element of []*T{{…}}
	}
	s, ok := t.Underlying().(*types.Struct)
	if !ok {
		return
	}
	for i, elt := range lit.Elts {
		if kv, ok := elt.(*ast.KeyValueExpr); ok {
			f.add(f.variable(kv.Key), kv.Value)
		} else if i < s.NumFields() {
			f.add(s.Field(i), elt)
		}
	}
}

// arguments notes the arguments of a call, for a function that is known or a function
// literal.
func (f *finder) arguments(call *ast.CallExpr) {
	sig, ok := f.TypesInfo.TypeOf(call.Fun).(*types.Signature)
	if !ok {
		return // a conversion, or a built-in function
	}
	if callee := typeutil.StaticCallee(f.TypesInfo, call); callee != nil {
		sig = callee.Origin().Signature()
	}
	params := sig.Params()
	for i, arg := range call.Args {
		if i < params.Len() {
			f.add(params.At(i), arg)
		} else if n := params.Len(); n > 0 && sig.Variadic() {
			f.add(params.At(n-1), arg)
		}
	}
}

// returned notes what a function returns first.
func (f *finder) returned(cur inspector.Cursor, r *ast.ReturnStmt) {
	for enclosing := range cur.Enclosing((*ast.FuncDecl)(nil), (*ast.FuncLit)(nil)) {
		if decl, ok := enclosing.Node().(*ast.FuncDecl); ok && len(r.Results) > 0 {
			if fn, ok := f.TypesInfo.Defs[decl.Name].(*types.Func); ok {
				f.results[fn] = append(f.results[fn], r.Results[0])
			}
		}
		return
	}
}

// variable returns the variable or the field that an expression names, or nil.
func (f *finder) variable(e ast.Expr) *types.Var {
	switch e := ast.Unparen(e).(type) {
	case *ast.Ident:
		v, _ := f.TypesInfo.ObjectOf(e).(*types.Var)
		return v
	case *ast.SelectorExpr:
		v, _ := f.TypesInfo.ObjectOf(e.Sel).(*types.Var)
		return v
	}
	return nil
}
