// Package listenports defines an Analyzer that reports the constant ports that a
// program listens on although they lie in the local port range: the kernel may have
// given such a port to an outgoing connection, and then Listen fails with "address
// already in use". In a test it fails now and then.
//
// It follows constants to net.Listen, net.ListenPacket, net.ListenTCP, net.ListenUDP,
// tls.Listen, the methods of net.ListenConfig, http.ListenAndServe and
// http.Server.Addr: through variables, fields, parameters, also those of other
// packages, what functions of the package return, and the usual ways to put an address
// together. The flag -range sets the local port range, by default that of Linux:
// 32768-60999. A comment "//safedial:ignore reason", on the line or above it, suppresses a
// report.
package listenports

import (
	"go/ast"
	"go/types"
	"reflect"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
	"golang.org/x/tools/go/ast/inspector"

	"github.com/safedial/safedial/safedialcheck/internal/ignore"
)

// Analyzer reports constant ports in the local port range that a program listens on.
var Analyzer = &analysis.Analyzer{
	Name: "listenports",
	Doc: "report constant ports in the local port range that a program listens on\n\n" +
		"An outgoing connection may have such a port.",
	URL:        "https://pkg.go.dev/github.com/safedial/safedial/safedialcheck/listenports",
	Requires:   []*analysis.Analyzer{inspect.Analyzer},
	FactTypes:  []analysis.Fact{(*listens)(nil)},
	ResultType: reflect.TypeFor[ignore.Used](),
	Run:        run,
}

// LocalPorts is the local port range.
var LocalPorts = PortRange{Low: 32768, High: 60999}

func init() { Analyzer.Flags.Var(&LocalPorts, "range", "the local port range, `low-high`") }

// listens is the fact that a program listens on the address, or on the port, that a
// parameter, a field or a variable has.
type listens struct{}

// AFact marks listens as a fact.
func (*listens) AFact() {}

func (*listens) String() string { return "listens" }

func run(pass *analysis.Pass) (any, error) {
	root := pass.ResultOf[inspect.Analyzer].(*inspector.Inspector).Root()
	f := &finder{
		Pass:      pass,
		ignored:   ignore.Of(pass),
		values:    make(map[*types.Var][]ast.Expr),
		results:   make(map[*types.Func][]ast.Expr),
		followed:  make(map[*types.Var]bool),
		checked:   make(map[ast.Expr]bool),
		generated: make(map[*ast.File]bool),
	}
	for _, file := range pass.Files {
		f.generated[file] = ast.IsGenerated(file)
	}
	f.index(root)
	for v := range f.values {
		if f.listensOn(v) {
			f.follow(v)
		}
	}
	return f.ignored.Used(), nil
}
