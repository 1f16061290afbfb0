package dials

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// importSafedial returns the name of safedial at pos, and the edits that import it
// if the file does not. It is not ok if the name means something else there.
func (c *checker) importSafedial(pos token.Pos) (name string, edits []analysis.TextEdit, ok bool) {
	return c.importName(safedialPath, "safedial", pos)
}

// importName is importSafedial for any path, and the name that it has by itself.
func (c *checker) importName(path, own string, pos token.Pos) (name string, edits []analysis.TextEdit, ok bool) {
	f := c.file(pos)
	if name, ok := c.imported(f, path, pos); ok {
		return name, nil, name != ""
	}
	if _, obj := c.scope(pos).LookupParent(own, token.NoPos); obj != nil {
		return "", nil, false
	}
	return own, []analysis.TextEdit{importEdit(f, path)}, true
}

// scope returns the innermost scope at pos.
func (c *checker) scope(pos token.Pos) *types.Scope {
	file := c.TypesInfo.Scopes[c.file(pos)]
	if inner := file.Innermost(pos); inner != nil {
		return inner
	}
	return file
}

// imported returns the name by which the file imports path, "" if it has another
// meaning at pos. It is not ok if the file does not import it by a name.
func (c *checker) imported(f *ast.File, path string, pos token.Pos) (name string, ok bool) {
	for _, spec := range f.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err != nil || p != path {
			continue
		}
		obj := c.TypesInfo.PkgNameOf(spec)
		if obj == nil || obj.Name() == "_" || obj.Name() == "." {
			continue
		}
		if _, found := c.scope(pos).LookupParent(obj.Name(), pos); found != types.Object(obj) {
			return "", true
		}
		return obj.Name(), true
	}
	return "", false
}

func (c *checker) file(pos token.Pos) *ast.File {
	i := slices.IndexFunc(c.Files, func(f *ast.File) bool { return f.FileStart <= pos && pos <= f.FileEnd })
	return c.Files[i]
}

// importEdit imports path after the imports of its kind: those of the standard
// library, or those of other modules. The file has at least one import.
func importEdit(f *ast.File, path string) analysis.TextEdit {
	decl := importDecl(f)
	quoted := strconv.Quote(path)
	if decl == nil {
		return insert(f.Name.End(), "\n\nimport "+quoted)
	}
	if !decl.Lparen.IsValid() {
		return insert(decl.Pos(), "import "+quoted+"\n")
	}
	if !strings.Contains(path, ".") {
		return insert(decl.Specs[0].Pos(), quoted+"\n\t")
	}
	var after *ast.ImportSpec
	for _, s := range decl.Specs {
		spec := s.(*ast.ImportSpec)
		if other, _ := strconv.Unquote(spec.Path.Value); strings.Contains(other, ".") && (after == nil || other < path) {
			after = spec
		}
	}
	text := "\n\t" + quoted
	if after == nil {
		after = decl.Specs[len(decl.Specs)-1].(*ast.ImportSpec)
		text = "\n" + text
	}
	if after.Comment != nil {
		return insert(after.Comment.End(), text)
	}
	return insert(after.End(), text)
}

// importDecl returns the file's import declaration with parentheses, or another one,
// other than import "C".
func importDecl(f *ast.File) *ast.GenDecl {
	var found *ast.GenDecl
	for _, d := range f.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok || decl.Tok != token.IMPORT || len(decl.Specs) == 0 || decl.Specs[0].(*ast.ImportSpec).Path.Value == `"C"` {
			continue
		}
		if found == nil || decl.Lparen.IsValid() && !found.Lparen.IsValid() {
			found = decl
		}
	}
	return found
}

func insert(pos token.Pos, text string) analysis.TextEdit {
	return analysis.TextEdit{Pos: pos, End: pos, NewText: []byte(text)}
}

func replace(n ast.Node, text string) analysis.TextEdit {
	return analysis.TextEdit{Pos: n.Pos(), End: n.End(), NewText: []byte(text)}
}
