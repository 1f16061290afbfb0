package adopt

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var writePage = flag.Bool("write", false, "write the tables of docs/adopt.md")

const page = "../docs/adopt.md"

// A line is what a function says about its library.
type line struct {
	file, library, code                     string
	tls, timeouts, keepAlive, proxies, note string
}

// TestPage compares the tables of the page with the functions, their comments and
// the round trips.
func TestPage(t *testing.T) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	tables := regexp.MustCompile(`(?s)<!-- table of (\S+) -->\n.*?<!-- end -->`)
	all := lines(t)
	servers := servers(t)
	printed := 0
	want := tables.ReplaceAllStringFunc(string(text), func(old string) string {
		file := tables.FindStringSubmatch(old)[1]
		table := fmt.Sprintf("<!-- table of %s -->\n\n| library | code | TLS | timeouts | keep-alive | proxies | round trip: own dialer, safedial |\n| --- | --- | --- | --- | --- | --- | --- |\n", file)
		for _, name := range names(t, file) {
			table += all[name].row(servers[name])
			printed++
		}
		return table + "\n<!-- end -->"
	})
	assert.Equal(t, len(all), printed, "a file has no table in the page")
	assert.GreaterOrEqual(t, len(all), 35)
	assert.GreaterOrEqual(t, len(servers), 18)
	if *writePage {
		require.NoError(t, os.WriteFile(page, []byte(want), 0o600))
	}
	assert.True(t, want == string(text), "run go test -run TestPage . -write")
}

// row returns the line of the page.
func (l line) row(server string) string {
	library := l.library
	if l.note != "" {
		library += "; " + l.note
	}
	if server == "" {
		server = "compiled only"
	} else {
		server += ": fails, passes"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s |\n", library, l.code, l.tls, l.timeouts, l.keepAlive, l.proxies, server)
}

// files returns the files that have lines.
func files(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"*.go", "heavy/*.go"} {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range found {
			if !strings.HasSuffix(file, "_test.go") && filepath.Base(file) != "doc.go" {
				files = append(files, file)
			}
		}
	}
	return files
}

// lines returns the lines of all libraries by the names of their functions.
func lines(t *testing.T) map[string]line {
	t.Helper()
	all := map[string]line{}
	for _, file := range files(t) {
		for _, f := range functions(t, file) {
			all[f.Name.Name] = parse(t, file, f)
		}
	}
	return all
}

// names returns the names of a file's functions, in order.
func names(t *testing.T, file string) []string {
	t.Helper()
	var names []string
	for _, f := range functions(t, file) {
		names = append(names, f.Name.Name)
	}
	return names
}

func functions(t *testing.T, file string) []*ast.FuncDecl {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
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
	l := line{file: file, code: code(string(source[f.Body.Lbrace : f.Body.Rbrace-1]))}
	first, rest, _ := strings.Cut(f.Doc.Text(), "\n")
	library, ok := strings.CutPrefix(strings.TrimSuffix(first, "."), f.Name.Name+" is ")
	require.True(t, ok, first)
	l.library = library
	cells := map[string]*string{
		"TLS": &l.tls, "Timeouts": &l.timeouts, "Keep-alive": &l.keepAlive, "Proxies": &l.proxies, "Note": &l.note,
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

// code returns a function's body, each line as Markdown's code, without what only
// hands errors and results on.
func code(body string) string {
	body = regexp.MustCompile(`\n\tif err != nil \{\n\t\treturn nil, err\n\t\}`).ReplaceAllString(body, "")
	body = regexp.MustCompile(`\n\treturn &?\w+\n$`).ReplaceAllString(body, "")
	body = regexp.MustCompile(`\n\treturn (.*?)(, nil)?\n$`).ReplaceAllString(body, "\n\t$1")
	var lines []string
	for text := range strings.Lines(body) {
		if text = strings.TrimSpace(text); text != "" {
			lines = append(lines, "`"+text+"`")
		}
	}
	return strings.Join(lines, "<br>")
}

// servers returns the servers of the round trips by the libraries' functions.
func servers(t *testing.T) map[string]string {
	t.Helper()
	servers := map[string]string{}
	for _, pattern := range []string{"trip_*_test.go", "heavy/trip_*_test.go"} {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range found {
			for _, f := range functions(t, file) {
				if library, ok := strings.CutPrefix(f.Name.Name, "TestRoundTrip"); ok {
					servers[library] = server(f)
				}
			}
		}
	}
	return servers
}

// server returns the string after "server:" in a test.
func server(f *ast.FuncDecl) (name string) {
	ast.Inspect(f, func(n ast.Node) bool {
		pair, ok := n.(*ast.KeyValueExpr)
		if !ok {
			return true
		}
		key, isName := pair.Key.(*ast.Ident)
		value, isText := pair.Value.(*ast.BasicLit)
		if isName && isText && key.Name == "server" {
			name, _ = strconv.Unquote(value.Value)
		}
		return true
	})
	return name
}
