package repo

import (
	"flag"
	"fmt"
	"go/build"
	"go/scanner"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var tree = flag.String("tree", root, "count the habits in this `directory`, a clone of the repository")

// A habit is a way to write that makes a reader stop. A text may have its limit for
// each thousand words, and one more; a limit of 0 is none at all.
type habit struct {
	name, pattern string
	limit         float64
}

var habits = []habit{
	{`"where" for if`, `(?:^|[.;:,(] )where (?:it|they|the|there|that|this|no|nothing|net|safedial|an?)\b|[.;:] Where\b`, 1},
	{`"has … do"`, `\b(?:has|have|having) (?:(?:the|an?|each|every) [a-z]+|net|Linux|it|them) (?:pick|choose|send|use|make|take|find|follow|print|run|wait|close|bind|connect|dial|switch|start|listen)\b`, 0},
	{`"what" as a noun`, `\b[Ww]hat (?:is|was|are|it|they|he|net|safedial|the|an?|has|have|had|can|cannot|needs|would|does|did|no|this|there|one|each|lies|happens|to)\b`, 3},
	{`"tell"`, `\b(?:[Tt]ells?|told|telling)\b`, 1},
	{`"guard"`, `\b[Gg]uard(?:s|ed|ing)?\b`, 0},
	{`"look" for check`, `\b(?:the|an?|two|each|every|one|that) looks?\b|\b[Ll]ook(?:s|ed|ing)? at\b`, 0},
	{`"serve" for apply`, `\b(?:serves?|served)\b`, 1},
	{`"name" for specify`, `\b(?:by name|naming|names? (?:the|it|them|an?|no|its))\b`, 1},
	{`"that of"`, `\b(?:[Tt]hat|[Tt]hose) of\b`, 1.5},
	{`"beside"`, `\b[Bb]eside\b`, 0.2},
	{`"nobody"`, `\b(?:[Nn]obody|[Ss]omebody)\b`, 0},
	{`"at once"`, `\bat once\b`, 0},
	{`"for" for because`, `[,;] for (?:it|they|there|this|these|net|nothing|which|each of)\b`, 0},
	{`"of which"`, `\b(?:of|for) which\b`, 1},
	{`inversion`, `(?:^|[.;:] )(?:Is|Are|Was|Has|Had|So is|So are|So has) (?:it|the|that|this|an?|there)\b`, 0},
	{`semicolon`, `;(?: |$)`, 4},
	{`private word`, `\b(?:real peers?\b|stands(?:[.,;]| [^i])|lends\b|anybody\b)`, 0},
}

// TestHabits counts the habits in each page, in the comments of the library and in what
// the programs print. It prints the counts beneath those of package net's comments.
func TestHabits(t *testing.T) {
	texts := map[string]string{
		"comments of net":         goText(t, filepath.Join(build.Default.GOROOT, "src", "net"), token.COMMENT),
		"comments of the library": goText(t, *tree, token.COMMENT),
		"output of the programs": list(goText(t, *tree+"/examples/*", token.STRING) +
			goText(t, *tree+"/safedialcheck/*", token.STRING)),
	}
	require.NoError(t, filepath.WalkDir(*tree, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			texts[filepath.ToSlash(strings.TrimPrefix(path, *tree+"/"))] = prose(t, path)
		}
		return err
	}))
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		words := strings.Fields(texts[name])
		line := fmt.Sprintf("%s, %d words", name, len(words))
		for _, h := range habits {
			found := regexp.MustCompile(h.pattern).FindAllString(strings.Join(words, " "), -1)
			if len(found) == 0 {
				continue
			}
			line += fmt.Sprintf("; %s %d", h.name, len(found))
			if *tree == root && name != "comments of net" {
				assert.LessOrEqual(t, float64(len(found)), h.limit*(1+float64(len(words))/1000), "%s: %s: %q", name, h.name, found)
			}
		}
		t.Log(line)
	}
}

// list returns text that is no sentences, but may have semicolons.
func list(text string) string { return strings.ReplaceAll(text, ";", ",") }

// prose returns the text of a page without code, headings and links.
func prose(t *testing.T, path string) string {
	t.Helper()
	page, err := os.ReadFile(path)
	require.NoError(t, err)
	text, _ := split(string(page))
	text = regexp.MustCompile("`[^`]*`|(?m)^#.*$|\\]\\([^)]*\\)").ReplaceAllString(text, "")
	return regexp.MustCompile(`(?m)^\|.*$`).ReplaceAllStringFunc(text, list)
}

// goText returns the comments, or the strings, of the Go files of the directories,
// without those of tests.
func goText(t *testing.T, directories string, kind token.Token) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(directories, "*.go"))
	require.NoError(t, err)
	var all strings.Builder
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		var s scanner.Scanner
		s.Init(token.NewFileSet().AddFile(file, -1, len(source)), source, nil, scanner.ScanComments)
		for _, k, text := s.Scan(); k != token.EOF; _, k, text = s.Scan() {
			if k == kind && !strings.HasPrefix(text, "//go:") {
				all.WriteString(strings.Trim(text, "/`\"") + "\n")
			}
		}
	}
	return all.String()
}
