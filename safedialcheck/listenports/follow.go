package listenports

import (
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"strconv"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/types/typeutil"
)

// builders are functions whose result is an address or a port if the argument with
// that index is.
var builders = map[string]int{
	"net.JoinHostPort":            1,
	"net.ResolveTCPAddr":          1,
	"net.ResolveUDPAddr":          1,
	"net.TCPAddrFromAddrPort":     0,
	"net.UDPAddrFromAddrPort":     0,
	"net/netip.AddrPortFrom":      1,
	"net/netip.MustParseAddrPort": 0,
	"net/netip.ParseAddrPort":     0,
	"strconv.Itoa":                0,
	"strconv.FormatInt":           0,
	"strconv.FormatUint":          0,
}

// follow checks all that the package assigns to v, where a listener listens.
func (f *finder) follow(v *types.Var) {
	v = v.Origin()
	if f.followed[v] {
		return
	}
	f.followed[v] = true
	if v.Pkg() == f.Pkg && (v.Kind() == types.ParamVar || v.Exported() && (v.IsField() || v.Parent() == f.Pkg.Scope())) {
		f.ExportObjectFact(v, new(listens))
	}
	for _, value := range f.values[v] {
		f.check(value)
	}
}

// check reports an expression that is the address, or the port, of a listener, if it
// is a constant in the local port range. If not, it goes on with what it is made of.
func (f *finder) check(e ast.Expr) {
	e = ast.Unparen(e)
	if f.checked[e] {
		return
	}
	f.checked[e] = true
	if value := f.TypesInfo.Types[e].Value; value != nil {
		if port, ok := portOf(value); ok {
			f.report(e, port)
		}
		return
	}
	switch e := e.(type) {
	case *ast.Ident, *ast.SelectorExpr:
		// The field of another package's type has any value: another use of it is no path.
		if v := f.variable(e); v != nil && (!v.IsField() || v.Pkg() == f.Pkg) {
			f.follow(v)
		}
	case *ast.BinaryExpr:
		if e.Op == token.ADD && types.Identical(f.TypesInfo.TypeOf(e).Underlying(), types.Typ[types.String]) {
			f.check(e.Y) // the port is the end of an address
		}
	case *ast.UnaryExpr:
		f.check(e.X)
	case *ast.StarExpr:
		f.check(e.X)
	case *ast.IndexExpr:
		f.check(e.X)
	case *ast.CompositeLit:
		f.elements(e)
	case *ast.CallExpr:
		f.call(e)
	}
}

// elements checks the elements of a literal, or the Port of a net.TCPAddr or a
// net.UDPAddr.
func (f *finder) elements(lit *ast.CompositeLit) {
	_, isStruct := f.TypesInfo.TypeOf(lit).Underlying().(*types.Struct)
	for _, elt := range lit.Elts {
		kv, keyed := elt.(*ast.KeyValueExpr)
		switch {
		case !isStruct && !keyed:
			f.check(elt)
		case !isStruct:
			f.check(kv.Value)
		case keyed && f.variable(kv.Key).Name() == "Port":
			f.check(kv.Value)
		}
	}
}

// call checks a conversion, and the functions that make an address of a port.
func (f *finder) call(call *ast.CallExpr) {
	if f.TypesInfo.Types[call.Fun].IsType() && len(call.Args) == 1 {
		f.check(call.Args[0])
		return
	}
	callee := typeutil.StaticCallee(f.TypesInfo, call)
	if callee == nil {
		return
	}
	if i, ok := builders[callee.FullName()]; ok && i < len(call.Args) {
		f.check(call.Args[i])
	}
	for _, result := range f.results[callee.Origin()] {
		f.check(result)
	}
	switch name := callee.FullName(); {
	case len(call.Args) == 0:
	case name == "fmt.Sprintf":
		f.format(call.Args)
	case name == "fmt.Sprint":
		f.check(call.Args[len(call.Args)-1])
	}
}

// format checks a port at the end of what fmt.Sprintf returns.
func (f *finder) format(args []ast.Expr) {
	value := f.TypesInfo.Types[args[0]].Value
	if value == nil || value.Kind() != constant.String {
		return
	}
	text := constant.StringVal(value)
	if port, ok := portOf(value); ok {
		f.report(args[0], port)
		return
	}
	verb := text[strings.LastIndex(text, "%")+1:]
	if len(verb) == 1 && strings.Contains("dsv", verb) && strings.Count(text, "%") == len(args)-1 {
		f.check(args[len(args)-1])
	}
}

// portOf returns the port of an address such as "localhost:40000", or of a number.
func portOf(value constant.Value) (int64, bool) {
	switch value.Kind() {
	case constant.Int:
		return constant.Int64Val(value)
	case constant.String:
		text := constant.StringVal(value)
		port, err := strconv.ParseUint(text[strings.LastIndex(text, ":")+1:], 10, 16)
		return int64(port), err == nil
	}
	return 0, false
}

// report reports a port that lies in the local port range.
func (f *finder) report(e ast.Expr, port int64) {
	if !LocalPorts.contains(port) {
		return
	}
	for file, generated := range f.generated {
		if generated && file.FileStart <= e.Pos() && e.Pos() <= file.FileEnd {
			return
		}
	}
	if f.ignored.Covers(e.Pos()) {
		return
	}
	f.Report(analysis.Diagnostic{
		Pos: e.Pos(), End: e.End(), Category: "listenports",
		Message: "port " + strconv.FormatInt(port, 10) + " lies in the local port range " + LocalPorts.String() +
			": an outgoing connection may have it, and then listening on it fails with \"address already in use\";" +
			" listen on a port below the range, listen on port 0 and keep the listener open, or reserve the port (net.ipv4.ip_local_reserved_ports)",
	})
}
