package dials

import (
	"go/ast"
	"go/constant"
	"go/types"
	"strings"

	"golang.org/x/tools/go/ast/edge"
	"golang.org/x/tools/go/ast/inspector"
)

const (
	shadowReason  = "the name safedial means something else here"
	dotReason     = "package net is imported with a dot"
	unknownReason = "its use cannot be followed"
)

// function checks a use of a function, be it called or passed.
func (c *checker) function(cur inspector.Cursor, f *types.Func) {
	if f.Pkg() == nil || f.Signature().Recv() != nil {
		return
	}
	what := f.Pkg().Name() + "." + f.Name()
	n := qualified(cur)
	call, _ := callOf(cur)
	switch f.Pkg().Path() + "." + f.Name() {
	case "net.Dial", "net.DialTimeout", "net.DialTCP", "net.DialUDP":
		if !c.harmlessNetwork(call, 0) {
			c.replaceName(n, what, "safedial."+f.Name(), f.Name())
		}
	case "crypto/tls.Dial":
		if !c.harmlessNetwork(call, 0) {
			c.tlsDial(n, call)
		}
	case "net/http.Get", "net/http.Head", "net/http.Post", "net/http.PostForm":
		c.defaultTransport(cur, what)
	case "database/sql.Open":
		c.sqlOpen(n.Node(), call)
	default:
		if lib := libraryOf(f); lib != nil {
			c.library(cur, n.Node(), lib, f, call)
		}
	}
}

// replaceName replaces a qualified name by one of safedial.
func (c *checker) replaceName(n inspector.Cursor, what, with, name string) {
	if _, ok := n.Node().(*ast.SelectorExpr); !ok {
		c.leave(n.Node(), what, dotReason)
		return
	}
	pkg, edits, ok := c.importSafedial(n.Node().Pos())
	if !ok {
		c.leave(n.Node(), what, shadowReason)
		return
	}
	c.fix(n.Node(), what, "Replace "+what+" with "+with, append(edits, replace(n.Node(), pkg+"."+name)))
}

// tlsDial replaces tls.Dial(network, addr, config) by tls.DialWithDialer, which it
// calls, with the net.Dialer of a safedial.Dialer.
func (c *checker) tlsDial(n inspector.Cursor, call *ast.CallExpr) {
	sel, isSelector := n.Node().(*ast.SelectorExpr)
	if call == nil || !isSelector || len(call.Args) != 3 {
		c.leave(n.Node(), "tls.Dial", unknownReason)
		return
	}
	pkg, edits, ok := c.importSafedial(n.Node().Pos())
	if !ok {
		c.leave(n.Node(), "tls.Dial", shadowReason)
		return
	}
	dialer := insert(call.Args[0].Pos(), "(&"+pkg+".Dialer{}).NetDialer(), ")
	c.fix(n.Node(), "tls.Dial", "Replace tls.Dial with tls.DialWithDialer and a safedial.Dialer",
		append(edits, replace(sel.Sel, "DialWithDialer"), dialer))
}

// drivers are the libraries by the names of their drivers.
var drivers = map[string]string{
	"pgx":        "github.com/jackc/pgx/v5",
	"postgres":   "github.com/lib/pq",
	"mysql":      "github.com/go-sql-driver/mysql by data source name",
	"sqlserver":  "github.com/microsoft/go-mssqldb",
	"mssql":      "github.com/microsoft/go-mssqldb",
	"clickhouse": "github.com/ClickHouse/clickhouse-go/v2",
	"oracle":     "github.com/sijms/go-ora/v2",
}

// sqlOpen checks a call of sql.Open with the name of a driver that dials.
func (c *checker) sqlOpen(n ast.Node, call *ast.CallExpr) {
	if call == nil || len(call.Args) == 0 {
		return
	}
	driver, _ := c.text(call.Args[0])
	row, ok := drivers[driver]
	if !ok || driver == "mysql" && c.namesAnywhere("RegisterDialContext", "RegisterDial") {
		return
	}
	reason := "its driver dials by itself; " + advice(row)
	if driver != "mysql" {
		reason = "its driver dials by itself; call sql.OpenDB with a connector: " + advice(row)
	}
	c.leave(n, "sql.Open", reason)
}

// qualified returns the cursor of pkg.Name for that of Name.
func qualified(cur inspector.Cursor) inspector.Cursor {
	if cur.ParentEdgeKind() == edge.SelectorExpr_Sel {
		return cur.Parent()
	}
	return cur
}

// callOf returns the call of the function that cur names.
func callOf(cur inspector.Cursor) (*ast.CallExpr, inspector.Cursor) {
	n := unparen(qualified(cur))
	if n.ParentEdgeKind() != edge.CallExpr_Fun {
		return nil, n
	}
	return n.Parent().Node().(*ast.CallExpr), n.Parent()
}

// text returns the value of a constant string.
func (c *checker) text(e ast.Expr) (string, bool) {
	value := c.TypesInfo.Types[e].Value
	if value == nil || value.Kind() != constant.String {
		return "", false
	}
	return constant.StringVal(value), true
}

// harmlessNetwork reports whether the argument i of a call is the constant name of a
// network whose sockets cannot be connected to themselves: those of Unix and IP sockets,
// which have no ports.
func (c *checker) harmlessNetwork(call *ast.CallExpr, i int) bool {
	if call == nil || len(call.Args) <= i {
		return false
	}
	network, ok := c.text(call.Args[i])
	return ok && (strings.HasPrefix(network, "unix") || strings.HasPrefix(network, "ip"))
}

// isBuiltin reports whether an expression is a built-in function by its own name.
func (c *checker) isBuiltin(e ast.Expr, names ...string) bool {
	id, ok := ast.Unparen(e).(*ast.Ident)
	if !ok {
		return false
	}
	_, builtin := c.TypesInfo.Uses[id].(*types.Builtin)
	for _, name := range names {
		if builtin && id.Name == name {
			return true
		}
	}
	return false
}
