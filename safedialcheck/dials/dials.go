// Package dials defines an Analyzer that reports the places that dial with package
// net instead of safedial, and fixes those that are mechanical.
//
// These are fixed: net.Dial, net.DialTimeout and net.DialTCP, called or passed;
// tls.Dial; a net.Dialer that is used only through its methods and fields; one that
// is passed to an API that takes a *net.Dialer, through NetDialer; a tls.Dialer
// without a NetDialer; and an http.Transport without a dial function if its HTTP/2
// support does not change.
//
// These are reported with the reason why they are left as they are: Unix and IP
// sockets, exported variables and fields, dialers whose use cannot be followed,
// http.Transport literals that would lose HTTP/2, uses of http.DefaultTransport,
// grpc, and packages that dial by themselves. Generated files are skipped, and test
// files too unless the flag -tests is set.
//
// With the flag -defaulttransport, the line that makes http.DefaultTransport dial
// with safedial is added to main, whether or not the program uses it.
//
// A fix keeps the types of what it touches, so that the package builds. It cannot know
// what another package does with a *net.Dialer that it is passed: it must not set
// LocalAddr or Control on it, see the documentation of safedial.Dialer.NetDialer.
package dials

import (
	"fmt"
	"go/ast"
	"go/types"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
	"golang.org/x/tools/go/ast/inspector"
)

const safedialPath = "github.com/safedial/safedial"

// Analyzer reports the places that dial without safedial.
var Analyzer = &analysis.Analyzer{
	Name:     "dials",
	Doc:      "report places that dial without safedial, and fix those that are mechanical\n\nThe connection of such a dial can be connected to itself.",
	URL:      "https://pkg.go.dev/github.com/safedial/safedial/safedialcheck/dials",
	Requires: []*analysis.Analyzer{inspect.Analyzer},
	Run:      run,
}

var inTests, inMain bool

func init() {
	Analyzer.Flags.BoolVar(&inTests, "tests", false, "check test files too")
	Analyzer.Flags.BoolVar(&inMain, "defaulttransport", false, "have the fix of main switch http.DefaultTransport")
}

// A checker is what the checks of a package share.
type checker struct {
	*analysis.Pass
	uses map[*types.Var][]inspector.Cursor // the identifiers that name a variable or a field
}

func run(pass *analysis.Pass) (any, error) {
	if pass.Pkg.Path() == safedialPath || strings.HasPrefix(pass.Pkg.Path(), safedialPath+" ") {
		return nil, nil
	}
	root := pass.ResultOf[inspect.Analyzer].(*inspector.Inspector).Root()
	c := &checker{Pass: pass, uses: variables(pass, root)}
	for file := range root.Children() {
		f := file.Node().(*ast.File)
		if ast.IsGenerated(f) || !inTests && strings.HasSuffix(pass.Fset.File(f.FileStart).Name(), "_test.go") {
			continue
		}
		for cur := range file.Preorder((*ast.Ident)(nil), (*ast.CallExpr)(nil), (*ast.CompositeLit)(nil), (*ast.FuncDecl)(nil)) {
			switch n := cur.Node().(type) {
			case *ast.Ident:
				c.ident(cur, n)
			case *ast.CallExpr:
				c.call(cur, n)
			case *ast.CompositeLit:
				c.literal(cur, n)
			case *ast.FuncDecl:
				c.mainFunc(n)
			}
		}
	}
	return nil, nil
}

// variables indexes the identifiers of the package's variables and fields.
func variables(pass *analysis.Pass, root inspector.Cursor) map[*types.Var][]inspector.Cursor {
	uses := make(map[*types.Var][]inspector.Cursor)
	for cur := range root.Preorder((*ast.Ident)(nil)) {
		if v, ok := pass.TypesInfo.ObjectOf(cur.Node().(*ast.Ident)).(*types.Var); ok {
			uses[v.Origin()] = append(uses[v.Origin()], cur)
		}
	}
	return uses
}

// ident checks a use of a function, a type or a variable of another package.
func (c *checker) ident(cur inspector.Cursor, id *ast.Ident) {
	switch obj := c.TypesInfo.Uses[id].(type) {
	case *types.Func:
		c.function(cur, obj)
	case *types.TypeName:
		if isNamed(obj, "net", "Dialer") {
			c.dialerType(cur)
		}
	case *types.Var:
		if isNamed(obj, "net/http", "DefaultTransport") || isNamed(obj, "net/http", "DefaultClient") {
			c.defaultTransport(cur, "http."+obj.Name())
		}
	}
}

// leave reports a place that is not fixed, with the reason.
func (c *checker) leave(n ast.Node, what, reason string) {
	c.Report(analysis.Diagnostic{
		Pos: n.Pos(), End: n.End(), Category: "left",
		Message: fmt.Sprintf("%s does not use safedial; left as it is: %s", what, reason),
	})
}

// fix reports a place with its fix. If safedial cannot be imported, the place is
// left.
func (c *checker) fix(n ast.Node, what, message string, edits []analysis.TextEdit) {
	c.Report(analysis.Diagnostic{
		Pos: n.Pos(), End: n.End(), Category: "fixed",
		Message:        what + " does not use safedial",
		SuggestedFixes: []analysis.SuggestedFix{{Message: message, TextEdits: edits}},
	})
}

// isNamed reports whether obj is what the package at path declares by that name.
func isNamed(obj types.Object, path, name string) bool {
	return obj != nil && obj.Pkg() != nil && obj.Pkg().Path() == path && obj.Name() == name && obj.Parent() == obj.Pkg().Scope()
}

// isType reports whether t is the named type of the package at path.
func isType(t types.Type, path, name string) bool {
	named, ok := types.Unalias(t).(*types.Named)
	return ok && isNamed(named.Obj(), path, name)
}

// isDialerPointer reports whether t is *net.Dialer.
func isDialerPointer(t types.Type) bool {
	p, ok := types.Unalias(t).(*types.Pointer)
	return ok && isType(p.Elem(), "net", "Dialer")
}
