package repo

import (
	"flag"
	"go/format"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDocs checks what the repository's Markdown refers to: files, headings,
// commands and their flags, tests by their names; and that its Go is Go. What
// lies on other machines it does not.
func TestDocs(t *testing.T) {
	t.Chdir(root)
	pages := markdown(t)
	require.NotEmpty(t, pages)
	for _, page := range pages {
		t.Run(page, func(t *testing.T) {
			text, err := os.ReadFile(page)
			require.NoError(t, err)
			prose, blocks := split(string(text))
			checkColumns(t, prose)
			for _, link := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(prose, -1) {
				checkLink(t, page, link[1])
			}
			for _, code := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(prose, -1) {
				checkCommand(t, code[1])
			}
			for _, b := range blocks {
				switch b.language {
				case "sh":
					for line := range strings.Lines(b.text) {
						checkCommand(t, line)
					}
				case "go":
					_, err := format.Source([]byte(b.text))
					assert.NoError(t, err, "%s", b.text)
				}
			}
		})
	}
}

func markdown(t *testing.T) (pages []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			pages = append(pages, filepath.ToSlash(path))
		}
		return err
	}))
	return pages
}

type block struct{ language, text string }

// split takes the fenced blocks out of a page.
func split(page string) (prose string, blocks []block) {
	for i, part := range strings.Split(page, "```") {
		if i%2 == 0 {
			prose += part
			continue
		}
		language, text, _ := strings.Cut(part, "\n")
		blocks = append(blocks, block{strings.TrimSpace(language), text})
	}
	return prose, blocks
}

// checkColumns checks that text is wrapped. Tables, and lines that a link makes
// long, need not be.
func checkColumns(t *testing.T, prose string) {
	t.Helper()
	link := regexp.MustCompile(`\]\([^)]*\)|!\[|https://\S+`)
	for line := range strings.SplitSeq(prose, "\n") {
		if strings.HasPrefix(line, "|") || link.MatchString(line) {
			continue
		}
		assert.LessOrEqual(t, utf8.RuneCountInString(line), 80, "wrap at 80 columns: %s", line)
	}
}

// checkLink checks a link to a file of the repository, or a heading in one.
func checkLink(t *testing.T, page, link string) {
	t.Helper()
	if strings.HasPrefix(link, "https://") {
		return
	}
	path, heading, _ := strings.Cut(link, "#")
	if path = filepath.Join(filepath.Dir(page), filepath.FromSlash(path)); strings.HasPrefix(link, "#") {
		path = page
	}
	if _, err := os.Stat(path); !assert.NoError(t, err, "%s links to %s", page, link) || heading == "" {
		return
	}
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Contains(t, anchors(string(text)), heading, "%s links to %s", page, link)
}

// anchors returns the names that the headings of a page are linked by.
func anchors(page string) (names []string) {
	prose, _ := split(page)
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(prose, -1) {
		names = append(names, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, heading[1]))
	}
	return names
}

// checkCommand checks a command that runs something of the repository.
func checkCommand(t *testing.T, line string) {
	t.Helper()
	line, _, _ = strings.Cut(line, " #")
	directory := "."
	for command := range strings.SplitSeq(line, "&&") {
		words := strings.Fields(strings.ReplaceAll(command, "'", ""))
		switch {
		case len(words) < 2:
		case words[0] == "cd" && words[1] != "safedial":
			directory = words[1]
			assert.DirExists(t, directory, line)
		case words[0] == "bash":
			assert.FileExists(t, words[1], line)
		case words[0] == "go" && words[1] == "run":
			target := words[slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, ".") })]
			main, err := filepath.Glob(filepath.Join(directory, target, "*.go"))
			require.NoError(t, err)
			assert.NotEmpty(t, main, line)
		case words[0] == "go" && words[1] == "test":
			checkTest(t, directory, words[2:])
		}
	}
}

// checkTest checks that a test command selects a test, by flags that there are.
func checkTest(t *testing.T, directory string, words []string) {
	t.Helper()
	var names, flags []string
	// The package follows the flags of the command; the flags of its own come after it.
	if i := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "./") && w != "./..." }); i >= 0 {
		directory = filepath.Join(directory, words[i])
	}
	if slices.Contains(words, "./...") {
		return
	}
	files, err := filepath.Glob(filepath.Join(directory, "*_test.go"))
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, match := range regexp.MustCompile(`(?m)^func ((?:Test|Example|Fuzz|Benchmark)\w*)`).FindAllStringSubmatch(string(text), -1) {
			names = append(names, match[1])
		}
		for _, match := range regexp.MustCompile(`flag\.\w+\("([\w-]+)"`).FindAllStringSubmatch(string(text), -1) {
			flags = append(flags, match[1])
		}
	}
	assert.NotEmpty(t, names, directory)
	for i, word := range words {
		name, isFlag := strings.CutPrefix(word, "-")
		switch {
		case !isFlag:
		case slices.Contains([]string{"run", "bench", "fuzz"}, name):
			pattern := regexp.MustCompile(strings.Split(words[i+1], "/")[0])
			assert.True(t, pattern.String() == "^$" || slices.ContainsFunc(names, pattern.MatchString), "%s has no test %s", directory, pattern)
		case flag.Lookup("test."+name) == nil && !slices.Contains([]string{"race", "exec", "tags"}, name):
			assert.Contains(t, flags, name, "%s has no test flag", directory)
		}
	}
}
