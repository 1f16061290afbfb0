package adopt

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// imports are what a block of the README may use. It imports what it uses.
var imports = map[string]string{
	"context": "context", "errors": "errors", "http": "net/http", "syscall": "syscall", "time": "time", "tls": "crypto/tls",
	"safedial": "github.com/safedial/safedial", "grpc": "google.golang.org/grpc", "credentials": "google.golang.org/grpc/credentials",
	"redis": "github.com/redis/go-redis/v9", "pgx": "github.com/jackc/pgx/v5",
}

// parameters are what a block of the README takes as given.
const parameters = "ctx context.Context, target, address, password string, tlsConfig *tls.Config, creds credentials.TransportCredentials, config *pgx.ConnConfig"

// TestReadme compiles each block of Go as it stands, in a function that has what it
// takes as given. Each has a timeout: a zero Dialer would replace the library's
// timeout by none.
func TestReadme(t *testing.T) {
	for _, page := range []string{"../README.md", page} {
		for i, block := range blocks(t, page) {
			t.Run(fmt.Sprintf("%s %d", filepath.Base(page), i+1), func(t *testing.T) {
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

// blocks returns a page's blocks of Go.
func blocks(t *testing.T, page string) []string {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	var blocks []string
	for _, match := range regexp.MustCompile("(?s)\n```go\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, match[1])
	}
	require.NotEmpty(t, blocks)
	return blocks
}

// wrap makes a program of a block.
func wrap(t *testing.T, block string) string {
	t.Helper()
	var lines []string
	for name, path := range imports {
		if regexp.MustCompile(`\b` + name + `\.`).MatchString(block + parameters) {
			lines = append(lines, fmt.Sprintf("\t%s %q", name, path))
		}
	}
	slices.Sort(lines)
	program := "package main\n\nimport (\n" + strings.Join(lines, "\n") + "\n)\n\nfunc main() {}\n\nfunc _(" + parameters + ") {\n\t{\n" + block + "%s\n\t}\n}\n"
	return fmt.Sprintf(program, uses(t, fmt.Sprintf(program, "")))
}

// uses uses the variables that a block declares for what follows.
func uses(t *testing.T, program string) string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "", program, 0)
	require.NoError(t, err, program)
	var uses strings.Builder
	ast.Inspect(file, func(n ast.Node) bool {
		if assign, ok := n.(*ast.AssignStmt); ok && assign.Tok == token.DEFINE {
			for _, name := range assign.Lhs {
				fmt.Fprintf(&uses, "\n\t\t_ = %s", name)
			}
		}
		return true
	})
	return uses.String()
}

// assertTimeouts asserts that the program makes a Dialer, and none without a timeout.
func assertTimeouts(t *testing.T, program string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "", program, 0)
	require.NoError(t, err)
	dialers := 0
	ast.Inspect(file, func(n ast.Node) bool {
		literal, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		if of, ok := literal.Type.(*ast.SelectorExpr); !ok || fmt.Sprint(of.X)+"."+of.Sel.Name != "safedial.Dialer" {
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

// TestReadmeLines sees that the README says what the traps' tests run.
func TestReadmeLines(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	for _, code := range strings.Split(lines(t)["HTTP"].code, "<br>") {
		assert.Contains(t, string(text), strings.Trim(code, "`"))
	}
	assert.Contains(t, string(text), "tls.Dialer{NetDialer: d.NetDialer(), Config: tlsConfig}")
	assert.NotContains(t, string(text), "&http.Transport{")
}
