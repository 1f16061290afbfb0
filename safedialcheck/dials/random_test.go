package dials_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	seed     = flag.Uint64("seed", 1, "the seed of the random programs")
	programs = flag.Int("programs", 30, "how many random programs are fixed")
)

// TestRandomPrograms makes programs that use net.Dialer in many ways, has the tool fix
// them, and compiles what it leaves.
func TestRandomPrograms(t *testing.T) {
	t.Logf("the seed is %d", *seed)
	r := rand.New(rand.NewPCG(*seed, 0))
	files := make(map[string]string)
	for i := range *programs {
		files[fmt.Sprintf("p%d/p.go", i)] = randomProgram(r)
	}
	dir := module(t, files)
	for _, p := range load(t, dir) {
		name := strings.TrimPrefix(p.PkgPath, "fixed/") + "/p.go"
		require.Empty(t, p.Errors, "it is wrong before it is fixed:\n%s", files[name])
	}
	tool := filepath.Join(t.TempDir(), "safedialcheck")
	output, err := exec.Command("go", "build", "-o", tool, "..").CombinedOutput()
	require.NoError(t, err, string(output))
	fix := exec.Command(tool, "-fix", "-dials", "./...")
	fix.Dir = dir
	output, err = fix.CombinedOutput()
	require.NoError(t, err, string(output))

	changed, kept := 0, 0
	for _, p := range load(t, dir) {
		name := strings.TrimPrefix(p.PkgPath, "fixed/") + "/p.go"
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Empty(t, p.Errors, "seed %d, before:\n%s\nafter:\n%s", *seed, files[name], text)
		changed += strings.Count(string(text), "safedial.Dialer")
		kept += strings.Count(string(text), "net.Dialer")
	}
	t.Logf("%d programs, %d names of safedial.Dialer, %d of net.Dialer", *programs, changed, kept)
	assert.Greater(t, changed, *programs/2, "nearly nothing is fixed")
	assert.Greater(t, kept, *programs/2, "nearly nothing is left")
}

// A program is what a random program is made of.
type program struct {
	*rand.Rand
	values, pointers []string // variables of type net.Dialer, and of type *net.Dialer
	body             strings.Builder
}

// fixedPart is in each program: what its statements can use.
const fixedPart = `package p

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

var _ = context.Background
var _ tls.Config
var _ http.Header
var _ time.Duration

type generic[T any] struct {
	d net.Dialer
	t T
}

type single struct{ d net.Dialer }

var shared net.Dialer

type iface interface{ Dial(network, address string) (net.Conn, error) }

func takeValue(net.Dialer)      {}
func takePointer(d *net.Dialer) { _ = d }
func takeInterface(iface)       {}
func takeAny(any)               {}
func id[T any](t T) T           { return t }
func result() *net.Dialer       { return shared2 }

`

const dotProgram = `package p

import . "net"

var shared Dialer

func f() {
	shared.Dial("tcp", "")
	_ = (&Dialer{}).Dial
	_, _ = Dial("tcp", "")
}
`

// randomProgram returns a program of which each statement is right.
func randomProgram(r *rand.Rand) string {
	p := &program{Rand: r}
	if r.IntN(8) == 0 {
		return dotProgram
	}
	var head strings.Builder
	head.WriteString(fixedPart)
	fmt.Fprintf(&head, "type client struct {\n\t%s\n\t%s\n\tname string\n}\n",
		p.pick("d net.Dialer", "D net.Dialer; d net.Dialer"),
		p.pick("p *net.Dialer", "p, q *net.Dialer"))
	fmt.Fprintf(&head, "var shared2 = %s\n", p.pick("&net.Dialer{}", "new(net.Dialer)", "&shared"))
	for i := range 1 + r.IntN(3) {
		p.function(i)
	}
	return head.String() + p.body.String()
}

// function adds a function with variables and statements.
func (p *program) function(i int) {
	p.values = []string{"shared", "x.d", "y.d", "g.d", "v", "s.d"}
	p.pointers = []string{"shared2", "x.p", "y.p", "w", "param"}
	parameter := p.pick("n int", "new int", "safedial string")
	fmt.Fprintf(&p.body, "\nfunc f%d(param *net.Dialer, ctx context.Context, %s) {\n", i, parameter)
	shadowed := parameter == "new int"
	for _, declaration := range []string{
		"var x client",
		"y := " + p.pick("&client{}", "&client{d: net.Dialer{}}", "&client{p: &net.Dialer{}}"),
		"var g generic[int]",
		"v := " + p.pick("net.Dialer{}", "net.Dialer{Timeout: time.Second}"),
		"var w = " + p.pick("&net.Dialer{}", "(&net.Dialer{Timeout: 1})"),
		"var s single",
	} {
		fmt.Fprintf(&p.body, "\t%s\n", declaration)
	}
	p.body.WriteString("\tx.name, y.name, g.t, _ = \"\", \"\", 0, ctx\n")
	p.body.WriteString("\tv.Timeout, w.Timeout, s.d.Timeout = 1, 1, 1\n")
	for range 2 + p.IntN(5) {
		statement := p.statement()
		if shadowed {
			statement = strings.ReplaceAll(statement, "new(net.Dialer)", "&net.Dialer{}")
		}
		fmt.Fprintf(&p.body, "\t%s\n", statement)
	}
	p.body.WriteString("}\n")
}

// statement returns a statement. V is a variable of type net.Dialer, P one of type
// *net.Dialer; a value of either is a lower-case letter.
func (p *program) statement() string {
	s := p.pick(
		`V.Dial("tcp", "")`, `P.Dial("tcp", "")`, `P.DialContext(ctx, "tcp", "")`,
		"V.Timeout = time.Second", "P.Timeout++", "V = v", "P = p", "P = &V", "*(&V) = v",
		"*P = v", "V = *P", "(V) = (v)", "P, V = p, v", "V, shared = shared, V", "takeValue(V)",
		"takePointer(P)", "takePointer(&V)", "takePointer(p)", "takeInterface(P)",
		"takeInterface(&V)", "takeAny(P)", "takeAny(V)", "_ = id(V)", "_ = id(P)", "V = id(v)",
		"P = id(p)", "_ = id[iface](P)", "takePointer((&V))", "_ = client{d: v}",
		"_ = &client{p: p}", "_ = single{v}", "_ = []single{{v}}", "_ = []*single{{d: v}}",
		"s = single{d: V}", "{ var u struct{ d net.Dialer }; u = s; _ = u }",
		"{ u := struct{ d net.Dialer }{v}; s = u }", "_ = struct{ d net.Dialer }(s)",
		`_ = map[string]net.Dialer{"a": v}`, "_ = []*net.Dialer{p, P}",
		`for _, d := range []net.Dialer{v} { d.Dial("tcp", "") }`,
		`func() { V.Dial("tcp", "") }()`, `go P.Dial("tcp", "")`, "defer takePointer(P)",
		"dial := V.Dial; _ = dial", `dial := (*net.Dialer).Dial; dial(P, "tcp", "")`,
		"if P == nil { P = p }", `if P != nil { P.Dial("tcp", "") }`, "P = result()", "P = param",
		"param = p", "_ = P.Timeout + V.Timeout", `tls.DialWithDialer(P, "tcp", "", nil)`,
		`tls.DialWithDialer(p, "tcp", "", nil)`, `tls.DialWithDialer(&V, "tcp", "", nil)`,
		"_ = tls.Dialer{NetDialer: P}", "_ = tls.Dialer{NetDialer: p}", "_ = tls.Dialer{P, nil}",
		"_ = []*tls.Dialer{{}}", "_ = tls.Dialer{}", "_ = http.Transport{ForceAttemptHTTP2: true}",
		"_ = http.Transport{DialContext: P.DialContext}", `tls.Dial("tcp", "", nil)`,
		`net.Dial("tcp", "")`, "dial := net.Dial; _ = dial", `net.DialTimeout("tcp", "", 1)`,
		"_ = (net.Dial)", `net.DialTCP("tcp", nil, nil)`,
		"ch := make(chan *net.Dialer, 1); ch <- P", "var i iface = P; _ = i",
		"var i iface = p; _ = i", "switch d := any(P).(type) { case *net.Dialer: _ = d }",
		"var a [2]net.Dialer; a[0] = V", "type local struct { net.Dialer }; _ = local{Dialer: v}",
		"type mine net.Dialer; _ = mine(V)", "{ net := 1; _ = net }",
		`{ safedial := V; safedial.Dial("tcp", "") }`,
		`var d net.Dialer; d.KeepAlive = 1; d.Dial("udp", "")`,
		"var d, e net.Dialer; _, _ = d.Timeout, e.Timeout",
		`d := net.Dialer{}; e := &d; e.Dial("tcp", "")`,
		"d := new(net.Dialer); d.LocalAddr = nil; takePointer(d)", "_ = V.Resolver",
		"V.Control = nil", "*V.Resolver = net.Resolver{}", "_ = &V.Timeout",
		"_ = func() *net.Dialer { return p }", "_ = func() iface { return p }",
	)
	if strings.Contains(s, "; ") && !strings.HasPrefix(s, "{") {
		s = "{ " + s + " }"
	}
	return p.fill(s)
}

// fill puts expressions for the letters V, P, v and p that stand for them.
func (p *program) fill(s string) string {
	var b strings.Builder
	for i := range len(s) {
		before := i > 0 && isWord(s[i-1])
		after := byte(';')
		if i+1 < len(s) {
			after = s[i+1]
		}
		switch {
		case before || after != '.' && isWord(after):
			b.WriteByte(s[i])
		case s[i] == 'V':
			b.WriteString(p.pick(p.values...))
		case s[i] == 'P':
			b.WriteString(p.pick(p.pointers...))
		case s[i] == 'v' && strings.IndexByte(",)};", after) >= 0:
			b.WriteString(p.pick("net.Dialer{}", "net.Dialer{Timeout: 1}", "*new(net.Dialer)",
				"shared", "(net.Dialer{})"))
		case s[i] == 'p' && after != ':':
			b.WriteString(p.pick("&net.Dialer{}", "new(net.Dialer)", "&net.Dialer{KeepAlive: 1}",
				"shared2", "&shared", "(&net.Dialer{})", "nil"))
		default:
			b.WriteByte(s[i])
		}
	}
	return strings.ReplaceAll(b.String(), "id(nil)", "id(shared2)")
}

func isWord(b byte) bool {
	return strings.IndexByte("_.\"", b) >= 0 ||
		'0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
}

func (p *program) pick(from ...string) string { return from[p.IntN(len(from))] }
