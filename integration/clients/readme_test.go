package clients

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestReadme shows that each block of Go in the README, and the first in the page, compiles
// as it stands, and that its Dialers have a Timeout: a zero Dialer would replace the library's
// timeout by none. The page's other blocks are bodies of functions.
func TestReadme(t *testing.T) {
	for _, page := range []string{readme, page} {
		for i, block := range blocks(t, page) {
			if page != readme && i > 0 {
				break
			}
			t.Run(fmt.Sprintf("%s-%d", filepath.Base(page), i+1), func(t *testing.T) {
				program := wrap(t, block)
				file := filepath.Join(t.TempDir(), "main.go")
				require.NoError(t, os.WriteFile(file, []byte(program), 0o600))
				output, err := exec.Command("go", "vet", file).CombinedOutput()
				assert.NoError(t, err, "%s\n%s", output, program)
				assertTimeouts(t, program)
			})
		}
	}
}

// TestReadmeLines shows that the README has the lines that TestHTTP2 and TestPassword run.
func TestReadmeLines(t *testing.T) {
	text, err := os.ReadFile(readme)
	require.NoError(t, err)
	for code := range strings.SplitSeq(strings.TrimSpace(lines(t)["HTTP"].code), "\n") {
		assert.Contains(t, string(text), code)
	}
	assert.Contains(t, string(text), "tls.Dialer{NetDialer: d.NetDialer(), Config: config}")
	assert.NotContains(t, string(text), "&http.Transport{")
}

const readme = "../../README.md"

// imports are what a block may import. It imports what it uses.
var imports = []string{"net/http", "time", "github.com/safedial/safedial"}

// blocks returns a page's blocks of Go.
func blocks(t *testing.T, page string) []string {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	fenced := regexp.MustCompile("(?s)\n```go\n(.*?)```")
	var blocks []string
	for _, match := range fenced.FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, match[1])
	}
	require.NotEmpty(t, blocks)
	return blocks
}

// wrap makes a program of a block, which takes ctx as given.
func wrap(t *testing.T, block string) string {
	t.Helper()
	program := "package main\n\nimport \"context\"\n"
	for _, name := range imports {
		if strings.Contains(block, path.Base(name)+".") {
			program += fmt.Sprintf("import %q\n", name)
		}
	}
	program += "\nfunc main() {}\n\nfunc _(ctx context.Context) {\n" + block
	return program + uses(t, program+"}\n") + "}\n"
}

// uses returns code that uses the variables that a program declares: a block declares some
// for the code that follows it.
func uses(t *testing.T, program string) string {
	t.Helper()
	uses := ""
	ast.Inspect(parseProgram(t, program), func(n ast.Node) bool {
		if assign, ok := n.(*ast.AssignStmt); ok && assign.Tok == token.DEFINE {
			for _, name := range assign.Lhs {
				uses += fmt.Sprintf("_ = %s\n", name)
			}
		}
		return true
	})
	return uses
}

// assertTimeouts asserts that the program makes a Dialer, and none without a Timeout.
func assertTimeouts(t *testing.T, program string) {
	t.Helper()
	dialers := 0
	ast.Inspect(parseProgram(t, program), func(n ast.Node) bool {
		literal, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		name, ok := literal.Type.(*ast.SelectorExpr)
		if !ok || fmt.Sprint(name.X)+"."+name.Sel.Name != "safedial.Dialer" {
			return true
		}
		dialers++
		assert.True(t, slices.ContainsFunc(literal.Elts, func(e ast.Expr) bool {
			pair, ok := e.(*ast.KeyValueExpr)
			return ok && fmt.Sprint(pair.Key) == "Timeout"
		}), "a Dialer without a Timeout")
		return true
	})
	assert.Positive(t, dialers, "no Dialer, and so no Timeout")
}

func parseProgram(t *testing.T, program string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "", program, parser.SkipObjectResolution)
	require.NoError(t, err, program)
	return file
}
