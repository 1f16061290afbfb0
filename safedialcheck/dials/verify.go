package dials

import (
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// verify type-checks the package with the fixes. If it would not build, fixes become
// reasons until it does.
func (c *checker) verify(all []finding) {
	safedial := c.safedial()
	if safedial == nil {
		return // package net is not imported: the fixes only add what is new
	}
	var edits []analysis.TextEdit
	for _, f := range all {
		if f.reason == "" {
			edits = append(edits, f.edits...)
		}
	}
	if len(edits) == 0 || c.build(safedial, edits) == nil {
		return
	}
	edits = nil
	for i, f := range all {
		if f.reason != "" {
			continue
		}
		with := slices.Concat(edits, f.edits)
		if err := c.build(safedial, with); err != nil {
			all[i].reason = "the package would not build: " + err.Error()
			continue
		}
		edits = with
	}
}

// build type-checks the package with the edits. Imports that are not used any more are
// no error, because what applies the fixes removes them.
func (c *checker) build(safedial *types.Package, edits []analysis.TextEdit) error {
	fset := token.NewFileSet()
	imported := importer{safedialPath: safedial}
	var files []*ast.File
	for _, f := range c.Files {
		text, err := c.edited(f, edits)
		if err != nil {
			return err
		}
		name := c.Fset.File(f.FileStart).Name()
		parsed, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, parsed)
		for _, spec := range f.Imports {
			if name := c.TypesInfo.PkgNameOf(spec); name != nil {
				path, _ := strconv.Unquote(spec.Path.Value)
				imported[path] = name.Imported()
			}
		}
	}
	var first error
	config := types.Config{
		GoVersion: c.Pkg.GoVersion(), Sizes: c.TypesSizes, Importer: imported,
		Error: func(err error) {
			e, ok := errors.AsType[types.Error](err)
			if first == nil && ok && !harmlessError(e.Msg) {
				first = errors.New(e.Msg)
			}
		},
	}
	_, _ = config.Check(c.Pkg.Path(), fset, files, nil)
	return first
}

// harmlessError reports whether an error is about an import that is not known here, or
// that what applies the fixes removes.
func harmlessError(message string) bool {
	return strings.HasPrefix(message, "could not import") ||
		strings.Contains(message, "imported") && strings.Contains(message, "and not used")
}

// edited returns the text of a file with the edits. Equal edits are one: several fixes
// add the same import, and change the same declaration.
func (c *checker) edited(f *ast.File, edits []analysis.TextEdit) ([]byte, error) {
	file := c.Fset.File(f.FileStart)
	text, err := os.ReadFile(file.Name())
	if err != nil {
		return nil, err
	}
	var own []analysis.TextEdit
	seen := make(map[string]bool)
	for _, edit := range edits {
		key := fmt.Sprint(edit.Pos, edit.End, string(edit.NewText))
		if f.FileStart <= edit.Pos && edit.Pos <= f.FileEnd && !seen[key] {
			seen[key] = true
			own = append(own, edit)
		}
	}
	slices.SortStableFunc(own, func(a, b analysis.TextEdit) int {
		return cmp.Or(cmp.Compare(a.Pos, b.Pos), cmp.Compare(a.End, b.End))
	})
	var out []byte
	at := 0
	for _, edit := range own {
		start, end := file.Offset(edit.Pos), file.Offset(edit.End)
		if start < at || end > len(text) {
			return nil, errors.New("another fix changes the same text")
		}
		out = append(append(out, text[at:start]...), edit.NewText...)
		at = end
	}
	return append(out, text[at:]...), nil
}

// An importer has the packages that a package imports.
type importer map[string]*types.Package

// Import returns a package. What the package did not import before is not known.
func (i importer) Import(path string) (*types.Package, error) {
	if pkg := i[path]; pkg != nil {
		return pkg, nil
	}
	if path == "unsafe" {
		return types.Unsafe, nil
	}
	return nil, errors.New("it is new")
}

// safedial returns the package safedial, or what the fixes use of it, made from package
// net. It is nil if the package imports neither.
func (c *checker) safedial() *types.Package {
	var net *types.Package
	for _, imported := range c.Pkg.Imports() {
		switch imported.Path() {
		case safedialPath:
			return imported
		case "net":
			net = imported
		}
	}
	if net == nil || net.Scope().Lookup("Dialer") == nil {
		return nil
	}
	pkg := types.NewPackage(safedialPath, "safedial")
	for _, name := range []string{"Dial", "DialTimeout", "DialTCP", "DialUDP"} {
		if f, ok := net.Scope().Lookup(name).(*types.Func); ok {
			pkg.Scope().Insert(types.NewFunc(token.NoPos, pkg, name, f.Signature()))
		}
	}
	addDialer(pkg, net.Scope().Lookup("Dialer").Type().(*types.Named))
	pkg.MarkComplete()
	return pkg
}

// members are the fields and methods that net.Dialer and safedial.Dialer have in common.
var members = []string{
	"Timeout", "Deadline", "LocalAddr", "DualStack", "FallbackDelay", "KeepAlive",
	"KeepAliveConfig", "Resolver", "Cancel", "Control", "ControlContext",
	"Dial", "DialContext", "DialIP", "DialTCP", "DialUDP", "DialUnix",
	"MultipathTCP", "SetMultipathTCP",
}

// addDialer declares a Dialer with the common members, a field and a method more, and the
// function DialContext.
func addDialer(pkg *types.Package, nd *types.Named) {
	own := types.NewField(token.NoPos, pkg, "MaxRetries", types.Typ[types.Int], false)
	fields := []*types.Var{own}
	s := nd.Underlying().(*types.Struct)
	for v := range s.Fields() {
		if slices.Contains(members, v.Name()) {
			fields = append(fields, types.NewField(token.NoPos, pkg, v.Name(), v.Type(), false))
		}
	}
	name := types.NewTypeName(token.NoPos, pkg, "Dialer", nil)
	d := types.NewNamed(name, types.NewStruct(fields, nil), nil)
	pkg.Scope().Insert(name)
	add := func(name string, params, results *types.Tuple) {
		recv := types.NewVar(token.NoPos, pkg, "d", types.NewPointer(d))
		sig := types.NewSignatureType(recv, nil, nil, params, results, false)
		d.AddMethod(types.NewFunc(token.NoPos, pkg, name, sig))
	}
	for f := range nd.Methods() {
		sig := f.Signature()
		if slices.Contains(members, f.Name()) {
			add(f.Name(), sig.Params(), sig.Results())
		}
		if f.Name() == "DialContext" {
			plain := types.NewSignatureType(nil, nil, nil, sig.Params(), sig.Results(), false)
			pkg.Scope().Insert(types.NewFunc(token.NoPos, pkg, f.Name(), plain))
		}
	}
	result := types.NewVar(token.NoPos, pkg, "", types.NewPointer(nd))
	add("NetDialer", nil, types.NewTuple(result))
}
