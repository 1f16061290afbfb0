package dials

import (
	"go/ast"
	"go/constant"
	"go/types"
	"strings"

	"golang.org/x/tools/go/ast/edge"
	"golang.org/x/tools/go/ast/inspector"
	"golang.org/x/tools/go/types/typeutil"
)

const (
	unixReason    = "a Unix socket cannot be connected to itself"
	ipReason      = "an IP socket has no port"
	shadowReason  = "the name safedial means something else here"
	unknownReason = "its use cannot be followed"
)

// function checks a use of a function, be it called or passed.
func (c *checker) function(cur inspector.Cursor, f *types.Func) {
	if f.Pkg() == nil || f.Signature().Recv() != nil {
		return
	}
	what := f.Pkg().Name() + "." + f.Name()
	n := qualified(cur)
	switch f.Pkg().Path() + "." + f.Name() {
	case "net.Dial", "net.DialTimeout", "net.DialTCP":
		call, called := callOf(cur)
		if called && c.unixNetwork(call.Args, 0) {
			c.leave(n.Node(), what, unixReason)
			return
		}
		c.replaceName(n, what, "safedial."+f.Name(), f.Name())
	case "net.DialUDP":
		c.leave(n.Node(), what, "safedial has no function that takes a *net.UDPAddr; use Dialer.DialUDP or Dialer.DialContext")
	case "net.DialUnix":
		c.leave(n.Node(), what, unixReason)
	case "net.DialIP":
		c.leave(n.Node(), what, ipReason)
	case "crypto/tls.Dial":
		c.tlsDial(cur, n)
	case "net/http.Get", "net/http.Head", "net/http.Post", "net/http.PostForm":
		c.defaultTransport(cur, what)
	default:
		if reason, ok := dialingFunctions[f.Pkg().Path()+"."+f.Name()]; ok {
			c.leave(n.Node(), what, reason)
		}
	}
}

// replaceName replaces a qualified name by one of safedial.
func (c *checker) replaceName(n inspector.Cursor, what, with, name string) {
	pkg, edits, ok := c.importSafedial(n.Node().Pos())
	if !ok {
		c.leave(n.Node(), what, shadowReason)
		return
	}
	c.fix(n.Node(), what, "Replace "+what+" with "+with, append(edits, replace(n.Node(), pkg+"."+name)))
}

// tlsDial replaces tls.Dial(network, addr, config) by tls.DialWithDialer, which it
// calls, with the net.Dialer of a safedial.Dialer.
func (c *checker) tlsDial(cur, n inspector.Cursor) {
	call, called := callOf(cur)
	sel, isSelector := n.Node().(*ast.SelectorExpr)
	if !called || !isSelector || len(call.Args) != 3 {
		c.leave(n.Node(), "tls.Dial", unknownReason)
		return
	}
	if c.unixNetwork(call.Args, 0) {
		c.leave(n.Node(), "tls.Dial", unixReason)
		return
	}
	pkg, edits, ok := c.importSafedial(n.Node().Pos())
	if !ok {
		c.leave(n.Node(), "tls.Dial", shadowReason)
		return
	}
	c.fix(n.Node(), "tls.Dial", "Replace tls.Dial with tls.DialWithDialer and a safedial.Dialer",
		append(edits, replace(sel.Sel, "DialWithDialer"), insert(call.Args[0].Pos(), "new("+pkg+".Dialer).NetDialer(), ")))
}

// call checks a call of grpc's functions.
func (c *checker) call(_ inspector.Cursor, call *ast.CallExpr) {
	f := typeutil.StaticCallee(c.TypesInfo, call)
	if f == nil || f.Pkg() == nil || f.Pkg().Path() != "google.golang.org/grpc" || f.Signature().Recv() != nil {
		return
	}
	if f.Name() != "NewClient" && f.Name() != "Dial" && f.Name() != "DialContext" {
		return
	}
	for _, arg := range call.Args {
		option, ok := ast.Unparen(arg).(*ast.CallExpr)
		if !ok {
			continue
		}
		if g := typeutil.StaticCallee(c.TypesInfo, option); g != nil && (g.Name() == "WithContextDialer" || g.Name() == "WithDialer") {
			return
		}
	}
	c.leave(call.Fun, "grpc."+f.Name(), "grpc dials by itself; pass grpc.WithContextDialer(d.DialTarget), unless an option has a dialer already")
}

// qualified returns the cursor of pkg.Name for that of Name.
func qualified(cur inspector.Cursor) inspector.Cursor {
	if cur.ParentEdgeKind() == edge.SelectorExpr_Sel {
		return cur.Parent()
	}
	return cur
}

// callOf returns the call of the function that cur names.
func callOf(cur inspector.Cursor) (*ast.CallExpr, bool) {
	n := qualified(cur)
	for n.ParentEdgeKind() == edge.ParenExpr_X {
		n = n.Parent()
	}
	if n.ParentEdgeKind() != edge.CallExpr_Fun {
		return nil, false
	}
	return n.Parent().Node().(*ast.CallExpr), true
}

// unixNetwork reports whether the argument i is the constant name of a Unix network.
func (c *checker) unixNetwork(args []ast.Expr, i int) bool {
	if len(args) <= i {
		return false
	}
	value := c.TypesInfo.Types[args[i]].Value
	return value != nil && value.Kind() == constant.String && strings.HasPrefix(constant.StringVal(value), "unix")
}
