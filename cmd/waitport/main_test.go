package main

import (
	"context"
	"errors"
	"go/parser"
	"go/token"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial/internal/progress"
)

func TestRun(t *testing.T) {
	up, other := listen(t), listen(t)
	tests := []struct {
		name   string
		args   []string
		status int
		out    string
	}{
		{"up", []string{up}, statusUp, up + " is up after "},
		{"up within a timeout", []string{"-timeout", "10s", up}, statusUp, " and 1 attempt\n"},
		{"up without a limit", []string{"-timeout", "0", up}, statusUp, up + " is up after "},
		{"both up", []string{up, other}, statusUp, " and 1 attempt\n" + other + " is up after "},
		{"name", []string{strings.Replace(up, "127.0.0.1", "localhost", 1)}, statusUp, "localhost"},
		{"help", []string{"-h"}, statusUp, help},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out, errs strings.Builder
			assert.Equal(t, test.status, run(test.args, &out, &errs))
			assert.Contains(t, out.String(), test.out)
			assert.Empty(t, errs.String())
		})
	}
}

func TestNotUp(t *testing.T) {
	up := listen(t)
	var out, errs strings.Builder
	assert.Equal(t, statusTimeout, run([]string{"-timeout", "200ms", up, "127.0.0.1:9"}, &out, &errs))
	assert.Contains(t, out.String(), up+" is up after ")
	assert.Regexp(t, `^waitport: 127.0.0.1:9 is not up after .*: connection refused\n$`, errs.String())
}

func TestWrongArguments(t *testing.T) {
	tests := []struct {
		name  string
		args  []string
		error string
	}{
		{"no address", nil, "expected an address"},
		{"no port", []string{"127.0.0.1"}, "address 127.0.0.1: missing port in address"},
		{"empty port", []string{"127.0.0.1:"}, `address 127.0.0.1:: no server can have port ""`},
		{"port 0", []string{"127.0.0.1:0"}, `address 127.0.0.1:0: no server can have port "0"`},
		{"bad port", []string{"127.0.0.1:9", "[::1]:65536"}, "address [::1]:65536: address 65536: "},
		{"bad timeout", []string{"-timeout", "soon", "127.0.0.1:9"}, `invalid value "soon" for flag`},
		{"negative timeout", []string{"-timeout", "-1s", "127.0.0.1:9"}, "-timeout -1s is negative"},
		{"bad flag", []string{"-nope"}, "flag provided but not defined: -nope"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out, errs strings.Builder
			assert.Equal(t, statusError, run(test.args, &out, &errs))
			assert.Empty(t, out.String())
			line, rest, _ := strings.Cut(errs.String(), "\n")
			assert.True(t, strings.HasPrefix(line, "waitport: "+test.error), line)
			assert.Equal(t, usage, rest)
		})
	}
}

// TestNameThatDoesNotResolveYet dials again, as for a refused connection.
func TestNameThatDoesNotResolveYet(t *testing.T) {
	answers := []error{&net.DNSError{IsNotFound: true}, errors.New("refused"), nil}
	dial := func(context.Context, string, string) (net.Conn, error) {
		err := answers[0]
		answers = answers[1:]
		conn, _ := net.Pipe()
		return conn, err
	}
	w := waiter{line: progress.On(t.Output()), dial: dial}
	assert.NoError(t, w.wait(t.Context(), "a.test:80"))
	assert.Equal(t, 3, w.attempts)
}

// TestHelpIsTheDoc has the doc comment of the command say what -h says.
func TestHelpIsTheDoc(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "main.go", nil, parser.ParseComments)
	require.NoError(t, err)
	words := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	doc := words(file.Doc.Text())
	for paragraph := range strings.SplitSeq(strings.TrimPrefix(help, "usage: "), "\n\n") {
		assert.Contains(t, doc, strings.TrimPrefix(words(paragraph), "waitport waits "))
	}
}

func listen(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}
