package repo

import (
	"bytes"
	"flag"
	"go/ast"
	"go/build"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// root is where the library is.
const root = "../.."

var writeAPI = flag.Bool("write-api", false, "write api.txt instead of comparing with it")

// TestAPI holds the exported names to api.txt. What is removed or changed there
// breaks someone's build.
func TestAPI(t *testing.T) {
	api := exported(t)
	if *writeAPI {
		require.NoError(t, os.WriteFile(root+"/api.txt", []byte(api), 0o644))
	}
	want, err := os.ReadFile(root + "/api.txt")
	require.NoError(t, err)
	assert.Equal(t, strings.ReplaceAll(string(want), "\r\n", "\n"), api, "go test -run TestAPI ./internal/repo -write-api")
}

// exported returns the exported declarations of the package, on this platform.
func exported(t *testing.T) string {
	t.Helper()
	pkg, err := build.ImportDir(root, 0)
	require.NoError(t, err)
	files := token.NewFileSet()
	var all []string
	for _, name := range pkg.GoFiles {
		file, err := parser.ParseFile(files, root+"/"+name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.FileExports(file)
		for _, decl := range file.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				if decl.Body = nil; decl.Recv == nil || ast.IsExported(receiver(decl)) {
					all = append(all, source(t, files, decl))
				}
			case *ast.GenDecl:
				for _, spec := range decl.Specs {
					if value, ok := spec.(*ast.ValueSpec); ok {
						value.Values = nil
					}
					if decl.Tok != token.IMPORT {
						all = append(all, decl.Tok.String()+" "+source(t, files, spec))
					}
				}
			}
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n") + "\n"
}

// receiver returns the name of the type that a method is of.
func receiver(method *ast.FuncDecl) string {
	kind := method.Recv.List[0].Type
	if pointer, ok := kind.(*ast.StarExpr); ok {
		kind = pointer.X
	}
	return kind.(*ast.Ident).Name
}

func source(t *testing.T, files *token.FileSet, node any) string {
	t.Helper()
	var text bytes.Buffer
	require.NoError(t, printer.Fprint(&text, files, node))
	return strings.ReplaceAll(text.String(), "\n\n", "\n")
}
