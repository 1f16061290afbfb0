package dials

import (
	"go/ast"
	"go/types"

	"golang.org/x/tools/go/ast/edge"
	"golang.org/x/tools/go/ast/inspector"
)

// unparen returns the outermost cursor that is cur in parentheses.
func unparen(cur inspector.Cursor) inspector.Cursor {
	for cur.ParentEdgeKind() == edge.ParenExpr_X {
		cur = cur.Parent()
	}
	return cur
}

// assignedTo returns the variable or the field that an expression is assigned to,
// nil if it is to neither.
func (c *checker) assignedTo(cur inspector.Cursor) *types.Var {
	cur = unparen(cur)
	kind, i := cur.ParentEdge()
	switch kind {
	case edge.AssignStmt_Rhs:
		assign := cur.Parent().Node().(*ast.AssignStmt)
		if len(assign.Lhs) == len(assign.Rhs) {
			return c.variable(assign.Lhs[i])
		}
		return c.variable(assign.Lhs[0])
	case edge.ValueSpec_Values:
		spec := cur.Parent().Node().(*ast.ValueSpec)
		if len(spec.Names) == len(spec.Values) {
			return c.variable(spec.Names[i])
		}
	case edge.KeyValueExpr_Value:
		if cur.Parent().ParentEdgeKind() == edge.CompositeLit_Elts {
			if key, ok := cur.Parent().Node().(*ast.KeyValueExpr).Key.(*ast.Ident); ok {
				if v, ok := c.TypesInfo.Uses[key].(*types.Var); ok && v.IsField() {
					return v
				}
			}
		}
	case edge.CompositeLit_Elts:
		return c.positional(cur.Parent().Node().(*ast.CompositeLit), i)
	}
	return nil
}

// variable returns the variable or the field that an expression names, or nil.
func (c *checker) variable(e ast.Expr) *types.Var {
	switch e := ast.Unparen(e).(type) {
	case *ast.Ident:
		v, _ := c.TypesInfo.ObjectOf(e).(*types.Var)
		return v
	case *ast.SelectorExpr:
		v, _ := c.TypesInfo.ObjectOf(e.Sel).(*types.Var)
		return v
	}
	return nil
}

// expected returns the type that the context of an expression asks for, nil if it
// asks for none, or if that is not known.
func (c *checker) expected(cur inspector.Cursor) types.Type {
	cur = unparen(cur)
	kind, i := cur.ParentEdge()
	switch kind {
	case edge.CallExpr_Args:
		return c.parameter(cur.Parent().Node().(*ast.CallExpr), i)
	case edge.KeyValueExpr_Value, edge.CompositeLit_Elts:
		return c.element(cur, kind)
	case edge.AssignStmt_Rhs:
		assign := cur.Parent().Node().(*ast.AssignStmt)
		if len(assign.Lhs) == len(assign.Rhs) {
			return c.TypesInfo.TypeOf(assign.Lhs[i])
		}
	case edge.ValueSpec_Values:
		if spec := cur.Parent().Node().(*ast.ValueSpec); spec.Type != nil {
			return c.TypesInfo.TypeOf(spec.Type)
		}
	case edge.ReturnStmt_Results:
		return c.result(cur, i)
	}
	return nil
}

// parameter returns the type of the parameter that argument i of a call is for.
func (c *checker) parameter(call *ast.CallExpr, i int) types.Type {
	sig, ok := c.TypesInfo.TypeOf(call.Fun).(*types.Signature)
	if !ok {
		return nil // a conversion, or a built-in function
	}
	params := sig.Params()
	if sig.Variadic() && i >= params.Len()-1 {
		if s, ok := params.At(params.Len() - 1).Type().(*types.Slice); ok && !call.Ellipsis.IsValid() {
			return s.Elem()
		}
		return nil
	}
	if i >= params.Len() {
		return nil
	}
	return params.At(i).Type()
}

// element returns the type of the field, or of the elements, that an expression of
// a composite literal is for.
func (c *checker) element(cur inspector.Cursor, kind edge.Kind) types.Type {
	parent := cur.Parent()
	if kind == edge.KeyValueExpr_Value {
		parent = parent.Parent()
	}
	lit, ok := parent.Node().(*ast.CompositeLit)
	if !ok {
		return nil
	}
	switch t := elem(c.TypesInfo.TypeOf(lit)).Underlying().(type) {
	case *types.Struct:
		if v := c.assignedTo(cur); v != nil {
			return v.Type()
		}
	case interface{ Elem() types.Type }:
		return t.Elem()
	}
	return nil
}

// result returns the type of the result i of the function that cur is in.
func (c *checker) result(cur inspector.Cursor, i int) types.Type {
	for f := range cur.Enclosing((*ast.FuncDecl)(nil), (*ast.FuncLit)(nil)) {
		var sig *types.Signature
		switch f := f.Node().(type) {
		case *ast.FuncDecl:
			sig = c.TypesInfo.Defs[f.Name].(*types.Func).Signature()
		case *ast.FuncLit:
			sig = c.TypesInfo.TypeOf(f).(*types.Signature)
		}
		if i < sig.Results().Len() && len(cur.Parent().Node().(*ast.ReturnStmt).Results) == sig.Results().Len() {
			return sig.Results().At(i).Type()
		}
		return nil
	}
	return nil
}
