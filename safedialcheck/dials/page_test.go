package dials

import (
	"bytes"
	"flag"
	"fmt"
	"go/format"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/tools/go/packages"
)

var (
	writePage      = flag.Bool("write", false, "write adopt.go")
	checkLibraries = flag.Bool("libraries", false, "look the known names up in the libraries of the modules adopt and adopt/heavy")
)

// handled are the rows that do not need the table of libraries.
var handled = []string{"net/http", "crypto/tls"}

// TestPage compares adopt.go with docs/adopt.md, and the rows of the page with the
// libraries.
func TestPage(t *testing.T) {
	rows, names := readPage(t)
	source := adoptSource(t, rows, names)
	if *writePage {
		require.NoError(t, os.WriteFile("adopt.go", source, 0o600))
	}
	written, err := os.ReadFile("adopt.go")
	require.NoError(t, err)
	assert.True(t, bytes.Equal(source, written), "run go test -run TestPage ./dials -write")
	assert.Greater(t, len(names), 45)

	used := make(map[string]bool)
	for _, row := range handled {
		used[row] = true
	}
	for _, row := range drivers {
		used[row] = true
		assert.Contains(t, rows, row)
	}
	for _, lib := range libraries {
		if lib.advice != "" {
			continue
		}
		used[lib.row] = true
		assert.Contains(t, rows, lib.row)
		if lib.tls != nil {
			used[lib.row+" with TLS"] = true
			assert.Contains(t, rows, lib.row+" with TLS")
		}
	}
	for _, row := range names {
		assert.True(t, used[row], "%s has no library", row)
	}
}

// TestIrreplaceable looks for the dials that the page says cannot be replaced.
func TestIrreplaceable(t *testing.T) {
	text, err := os.ReadFile("../../docs/adopt.md")
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(text), "| dial | instead |")
	require.True(t, ok)
	packages := map[string]string{
		"smtp": "net/smtp", "ssh": "golang.org/x/crypto/ssh", "rpc": "net/rpc",
		"beanstalk": "github.com/beanstalkd/go-beanstalk", "ftp": "github.com/jlaffaye/ftp",
	}
	calls := regexp.MustCompile("`(\\w+)\\.(\\w+)`").FindAllStringSubmatch(table, -1)
	found := 0
	for _, call := range calls {
		if path, ok := packages[call[1]]; ok && !strings.HasPrefix(call[2], "New") {
			assert.Contains(t, known, path+"."+call[2])
			found++
		}
	}
	assert.GreaterOrEqual(t, found, 8)
}

// TestLibraries looks the known names up in the real libraries. It downloads them, so
// that a flag asks for it.
func TestLibraries(t *testing.T) {
	if !*checkLibraries {
		t.Skip("the flag -libraries is not set")
	}
	missing := make(map[string]bool)
	paths := make(map[string]bool)
	for name, lib := range known {
		missing[name] = true
		paths[lib.path] = true
	}
	for _, dir := range []string{"../../adopt", "../../adopt/heavy"} {
		var patterns []string
		for path := range paths {
			patterns = append(patterns, path)
		}
		loaded, err := packages.Load(&packages.Config{Mode: packages.NeedName | packages.NeedTypes, Dir: dir}, patterns...)
		require.NoError(t, err)
		for _, p := range loaded {
			if p.Types == nil {
				continue
			}
			for _, name := range p.Types.Scope().Names() {
				delete(missing, p.PkgPath+"."+name)
			}
		}
	}
	for name := range missing {
		assert.Contains(t, name, "github.com/nsqio/go-nsq.", "it does not exist")
	}
}

// readPage returns the lines of code by the rows of the page, and the rows in order.
func readPage(t *testing.T) (rows map[string][]string, names []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/adopt.md")
	require.NoError(t, err)
	rows = make(map[string][]string)
	for _, table := range regexp.MustCompile(`(?s)<!-- table of \S+ -->(.*?)<!-- end -->`).FindAllStringSubmatch(string(text), -1) {
		for _, row := range strings.Split(strings.TrimSpace(table[1]), "\n")[2:] {
			cells := strings.Split(row, " | ")
			name, _, _ := strings.Cut(strings.TrimPrefix(cells[0], "| "), ";")
			for _, line := range strings.Split(cells[1], "<br>") {
				rows[name] = append(rows[name], strings.Trim(line, "`"))
			}
			names = append(names, name)
		}
	}
	return rows, names
}

// adoptSource returns what adopt.go should be.
func adoptSource(t *testing.T, rows map[string][]string, names []string) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("// Code generated from docs/adopt.md by go test -run TestPage ./dials -write. DO NOT EDIT.\n\n")
	b.WriteString("package dials\n\n// adopt has the lines of code of docs/adopt.md by the names of its rows.\n")
	b.WriteString("var adopt = map[string][]string{\n")
	for _, name := range names {
		fmt.Fprintf(&b, "%q: {\n", name)
		for _, line := range rows[name] {
			fmt.Fprintf(&b, "%#q,\n", line)
		}
		b.WriteString("},\n")
	}
	b.WriteString("}\n")
	source, err := format.Source(b.Bytes())
	require.NoError(t, err)
	return source
}
