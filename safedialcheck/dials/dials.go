// Package dials defines an Analyzer that reports the places that dial with package
// net instead of safedial, and fixes those that are mechanical.
//
// These are fixed: net.Dial, net.DialTimeout, net.DialTCP and net.DialUDP, called or
// passed; tls.Dial; a net.Dialer that is used only through its methods and fields; one
// that is passed to an API that takes a *net.Dialer, through NetDialer; a tls.Dialer
// without a NetDialer; and an http.Transport without a dial function if its HTTP/2
// support does not change.
//
// These are reported with the reason why they are left as they are: exported variables
// and fields, dialers whose use cannot be followed, http.Transport literals that would
// lose HTTP/2, and libraries that dial by themselves. A main function is reported if the
// program uses http.DefaultTransport and does not set its DialContext. With the flag
// -defaulttransport, the line that does this is added to main, whether or not the program
// uses it.
//
// Unix and IP sockets are not reported, because they cannot be connected to themselves.
// Generated files are skipped, and test files too unless the flag -tests is set. A comment
// "//safedial:ignore reason", on the line or above it, suppresses a report.
//
// A fix keeps the types of what it touches, and the package is type-checked with it, so
// that the package builds. It cannot know what another package does with a *net.Dialer
// that it is passed: it must not set LocalAddr or Control on it, see the documentation of
// safedial.Dialer.NetDialer.
package dials

import (
	"go/ast"
	"go/types"
	"reflect"
	"regexp"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
	"golang.org/x/tools/go/ast/inspector"

	"github.com/safedial/safedial/safedialcheck/internal/ignore"
)

const safedialPath = "github.com/safedial/safedial"

// Analyzer reports the places that dial without safedial.
var Analyzer = &analysis.Analyzer{
	Name: "dials",
	Doc: "report places that dial without safedial, and fix those that are mechanical\n\n" +
		"The connection of such a dial can be connected to itself.",
	URL:        "https://pkg.go.dev/github.com/safedial/safedial/safedialcheck/dials",
	Requires:   []*analysis.Analyzer{inspect.Analyzer},
	FactTypes:  []analysis.Fact{(*transports)(nil)},
	ResultType: reflect.TypeFor[ignore.Used](),
	Run:        run,
}

var inTests, inMain bool

func init() {
	Analyzer.Flags.BoolVar(&inTests, "tests", false, "check the dials of test files too")
	Analyzer.Flags.BoolVar(&inMain, "defaulttransport", false,
		"have the fix of main set the DialContext of http.DefaultTransport")
}

// A checker is what the checks of a package share.
type checker struct {
	*analysis.Pass
	ignored  *ignore.List
	uses     map[*types.Var][]inspector.Cursor // the identifiers that name a variable or a field
	unkeyed  map[*types.Var]bool               // the fields that a literal sets without their names
	switched bool                              // the package sets http.DefaultTransport's dialer
	places   []string                          // the uses of http.DefaultTransport
	found    []finding
}

func run(pass *analysis.Pass) (any, error) {
	path := pass.Pkg.Path()
	if path == safedialPath || strings.HasPrefix(path, safedialPath+" ") {
		return ignore.Used{}, nil
	}
	root := pass.ResultOf[inspect.Analyzer].(*inspector.Inspector).Root()
	c := &checker{Pass: pass, ignored: ignore.Of(pass)}
	c.index(root)
	c.switched = c.switchesDefault()
	for file := range root.Children() {
		if !c.generated(file.Node().(*ast.File)) {
			c.check(file)
		}
	}
	c.exportTransports()
	c.mainFuncs()
	c.report()
	return c.ignored.Used(), nil
}

func (c *checker) check(file inspector.Cursor) {
	for cur := range file.Preorder((*ast.Ident)(nil), (*ast.CompositeLit)(nil)) {
		switch n := cur.Node().(type) {
		case *ast.Ident:
			c.ident(cur, n)
		case *ast.CompositeLit:
			c.literal(cur, n)
		}
	}
}

// index notes the identifiers of the package's variables and fields, and the fields that
// are set without their names.
func (c *checker) index(root inspector.Cursor) {
	c.uses = make(map[*types.Var][]inspector.Cursor)
	c.unkeyed = make(map[*types.Var]bool)
	for cur := range root.Preorder((*ast.Ident)(nil), (*ast.CompositeLit)(nil)) {
		switch n := cur.Node().(type) {
		case *ast.Ident:
			if v, ok := c.TypesInfo.ObjectOf(n).(*types.Var); ok {
				c.uses[v.Origin()] = append(c.uses[v.Origin()], cur)
			}
		case *ast.CompositeLit:
			for i, elt := range n.Elts {
				if _, keyed := elt.(*ast.KeyValueExpr); keyed {
					break
				}
				if v := c.positional(n, i); v != nil {
					c.unkeyed[v.Origin()] = true
				}
			}
		}
	}
}

// positional returns the field that the element i of a literal without names sets, nil
// if the literal is no struct's.
func (c *checker) positional(lit *ast.CompositeLit, i int) *types.Var {
	s, ok := elem(c.TypesInfo.TypeOf(lit)).Underlying().(*types.Struct)
	if !ok || i >= s.NumFields() {
		return nil
	}
	return s.Field(i)
}

// ident checks a use of a function, a type or a variable of another package.
func (c *checker) ident(cur inspector.Cursor, id *ast.Ident) {
	obj := c.TypesInfo.Uses[id]
	switch obj := obj.(type) {
	case *types.Func:
		c.function(cur, obj)
	case *types.TypeName:
		if isNamed(obj, "net", "Dialer") {
			c.dialerType(cur)
			return
		}
		c.zero(cur, obj)
	case *types.Var:
		if isNamed(obj, "net/http", "DefaultTransport") || isNamed(obj, "net/http", "DefaultClient") {
			c.defaultTransport(cur, "http."+obj.Name())
			return
		}
		if lib := libraryOf(obj); lib != nil {
			c.library(cur, qualified(cur).Node(), lib, obj, nil)
		}
	}
}

// generated reports whether a file is generated. The file that cgo makes of one that
// imports "C" counts as that one, whose comments it has.
func (c *checker) generated(f *ast.File) bool {
	if !fromCgo(f) {
		return ast.IsGenerated(f)
	}
	if c.Fset.Position(f.Package).Filename == c.Fset.File(f.FileStart).Name() {
		return true // it is made of no file
	}
	for _, group := range f.Comments[1:] {
		for _, comment := range group.List {
			if comment.Pos() < f.Package && generatedLine.MatchString(comment.Text) {
				return true
			}
		}
	}
	return false
}

// fromCgo reports whether cgo has made the file. Nothing in it can be fixed.
func fromCgo(f *ast.File) bool {
	const line = "// Code generated by cmd/cgo;"
	return len(f.Comments) > 0 && strings.HasPrefix(f.Comments[0].List[0].Text, line)
}

// generatedLine is the comment of a generated file.
var generatedLine = regexp.MustCompile(`^// Code generated .* DO NOT EDIT\.$`)

// isNamed reports whether obj is what the package at path declares by that name.
func isNamed(obj types.Object, path, name string) bool {
	return obj != nil && obj.Pkg() != nil && obj.Pkg().Path() == path && obj.Name() == name &&
		obj.Parent() == obj.Pkg().Scope()
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

// elem returns what t points to if t is a pointer, and t if it is not: a literal {} in a
// []*T has the type *T.
func elem(t types.Type) types.Type {
	if p, ok := t.Underlying().(*types.Pointer); ok {
		return p.Elem()
	}
	return t
}
