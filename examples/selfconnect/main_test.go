package main

import (
	"go/parser"
	"go/token"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWrongArguments(t *testing.T) {
	tests := []struct {
		name  string
		arg   string
		error string
	}{
		{"flag", "-nope", "flag provided but not defined: -nope"},
		{"argument", "40000", `unexpected argument "40000"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var errs strings.Builder
			assert.Equal(t, statusError, run([]string{test.arg}, io.Discard, &errs))
			assert.Equal(t, "selfconnect: "+test.error+"\n"+usage, errs.String())
		})
	}
}

func TestHelp(t *testing.T) {
	var out, errs strings.Builder
	assert.Equal(t, statusKept, run([]string{"-h"}, &out, &errs))
	assert.Equal(t, help, out.String())
	assert.Empty(t, errs.String())
}

// TestHelpIsTheDoc has the doc comment of the command say what -h says.
func TestHelpIsTheDoc(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "main.go", nil, parser.ParseComments)
	require.NoError(t, err)
	words := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	doc := words(file.Doc.Text())
	for paragraph := range strings.SplitSeq(strings.TrimPrefix(help, "usage: "), "\n\n") {
		assert.Contains(t, doc, words(paragraph))
	}
}
