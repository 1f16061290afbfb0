package clients

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var writePage = flag.Bool("write", false, "write the code and the table of docs/adopt.md")

const page = "../../docs/adopt.md"

// A line is what a function says about its library.
type line struct {
	library, code, tls, timeouts, keepAlive, proxies, note string
}

// TestPage shows that the code and the table of the page are what the functions, their comments and the
// tests say, and that the tests have each library.
func TestPage(t *testing.T) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	all := lines(t)
	servers := map[string]string{}
	for _, lib := range libraries {
		assert.Contains(t, all, lib.name)
		servers[lib.name] = lib.server.name
	}
	sections := regexp.MustCompile(`(?s)<!-- code of (\S+) -->\n.*?<!-- end -->`)
	table := "<!-- table -->\n\n" + header
	printed := 0
	want := sections.ReplaceAllStringFunc(string(text), func(old string) string {
		file := sections.FindStringSubmatch(old)[1]
		section := fmt.Sprintf("<!-- code of %s -->\n", file)
		for _, f := range functions(t, file) {
			name := f.Name.Name
			_, tested := servers[name]
			assert.True(t, tested || file == "heavy.go", "no test of %s", name)
			section += all[name].section()
			table += all[name].row(servers[name])
			printed++
		}
		return section + "\n<!-- end -->"
	})
	want = regexp.MustCompile(`(?s)<!-- table -->\n.*?<!-- end -->`).ReplaceAllLiteralString(want, table+"\n<!-- end -->")
	assert.Len(t, all, printed, "the page has no code of a file")
	if *writePage {
		require.NoError(t, os.WriteFile(page, []byte(want), 0o600))
	}
	assert.True(t, want == string(text), "run go test -run TestPage ./clients -write")
}

const header = "| library | TLS | timeouts | keep-alive | proxies " +
	"| round trip: own dialer, safedial |\n" +
	"| --- | --- | --- | --- | --- | --- |\n"

// section returns the library's heading and code.
func (l line) section() string {
	note := ""
	if l.note != "" {
		note = "\nNote: " + l.note + ".\n"
	}
	return "\n### " + l.library + "\n" + note + "\n```go\n" + l.code + "```\n"
}

// row returns the library's line in the table.
func (l line) row(server string) string {
	roundTrip := "compiled only"
	if server != "" {
		roundTrip = server + ": fails, passes"
	}
	cells := []string{l.library, l.tls, l.timeouts, l.keepAlive, l.proxies, roundTrip}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

// lines returns the lines of all libraries by the names of their functions.
func lines(t *testing.T) map[string]line {
	t.Helper()
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	all := map[string]line{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, f := range functions(t, file) {
			all[f.Name.Name] = parse(t, file, f)
		}
	}
	return all
}

func functions(t *testing.T, file string) []*ast.FuncDecl {
	t.Helper()
	mode := parser.ParseComments | parser.SkipObjectResolution
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, mode)
	require.NoError(t, err)
	var functions []*ast.FuncDecl
	for _, d := range parsed.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			functions = append(functions, f)
		}
	}
	return functions
}

// parse takes a function's comment and body apart.
func parse(t *testing.T, file string, f *ast.FuncDecl) line {
	t.Helper()
	source, err := os.ReadFile(file)
	require.NoError(t, err)
	// The file is the only one of its FileSet, so that positions are offsets from 1.
	l := line{code: code(string(source[f.Body.Lbrace : f.Body.Rbrace-1]))}
	first, rest, _ := strings.Cut(f.Doc.Text(), "\n")
	library, ok := strings.CutPrefix(strings.TrimSuffix(first, "."), f.Name.Name+" is ")
	require.True(t, ok, first)
	l.library = library
	cells := map[string]*string{
		"TLS": &l.tls, "Timeouts": &l.timeouts, "Keep-alive": &l.keepAlive,
		"Proxies": &l.proxies, "Note": &l.note,
	}
	for text := range strings.Lines(rest) {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		key, value, _ := strings.Cut(text, ": ")
		require.Contains(t, cells, key, "%s: %s", f.Name.Name, text)
		*cells[key] = value
	}
	for key, cell := range cells {
		assert.True(t, *cell != "" || key == "Note", "%s says nothing about %s", f.Name.Name, key)
	}
	return l
}

// code returns a function's body, without what only hands errors and results on.
func code(body string) string {
	body = strings.ReplaceAll(body, "\n\tif err != nil {\n\t\treturn nil, err\n\t}", "")
	body = regexp.MustCompile(`\n\treturn &?\w+\n$`).ReplaceAllString(body, "\n")
	body = regexp.MustCompile(`\n\treturn (.*?)(, nil)?\n$`).ReplaceAllString(body, "\n\t$1\n")
	return strings.ReplaceAll(strings.Trim(body, "\n"), "\n\t", "\n")[1:] + "\n"
}
