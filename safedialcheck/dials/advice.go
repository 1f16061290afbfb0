package dials

import (
	"go/ast"
	"go/types"
	"strings"
)

// known has the libraries by the paths and the names of what dials.
var known = func() map[string]*library {
	known := make(map[string]*library)
	for i := range libraries {
		for name := range strings.FieldsSeq(libraries[i].names) {
			known[libraries[i].path+"."+name] = &libraries[i]
		}
	}
	return known
}()

// libraryOf returns the library whose function, type or variable obj is, or nil.
func libraryOf(obj types.Object) *library {
	if obj.Pkg() == nil || obj.Parent() != obj.Pkg().Scope() {
		return nil
	}
	return known[obj.Pkg().Path()+"."+obj.Name()]
}

// mostLines is how many lines of code a report has.
const mostLines = 3

const page = "https://github.com/safedial/safedial/blob/main/docs/adopt.md"

// advice returns the lines of a row of docs/adopt.md, or where they are.
func advice(row string) string {
	code := adopt[row]
	if len(code) > mostLines {
		return "see " + row + " in " + page
	}
	return "write " + strings.Join(code, "; ") + " (" + page + ")"
}

// harmlessFirst reports whether the first argument is a Unix network.
func harmlessFirst(c *checker, call *ast.CallExpr) bool { return c.harmlessNetwork(call, 0) }

// localLog reports whether syslog.Dial writes to the local log.
func localLog(c *checker, call *ast.CallExpr) bool {
	if len(call.Args) == 0 {
		return false
	}
	network, ok := c.text(call.Args[0])
	return ok && network == "" || c.harmlessNetwork(call, 0)
}

// lastIsSet reports whether the last argument is not nil: proxy.Direct is reported by
// itself.
func lastIsSet(c *checker, call *ast.CallExpr) bool {
	return len(call.Args) > 0 && !c.TypesInfo.Types[call.Args[len(call.Args)-1]].IsNil()
}

// unixTarget reports whether the target of a gRPC client is a Unix socket.
func unixTarget(c *checker, call *ast.CallExpr) bool {
	for _, arg := range call.Args {
		if target, ok := c.text(arg); ok {
			return strings.HasPrefix(target, "unix:") || strings.HasPrefix(target, "unix-abstract:")
		}
	}
	return false
}

// mobySocket reports whether a client has no host but the default, a Unix socket.
func mobySocket(_ *checker, call *ast.CallExpr) bool {
	for _, arg := range call.Args {
		if named(arg, []string{"WithHost", "WithHostFromEnv", "FromEnv"}) {
			return false
		}
	}
	return !call.Ellipsis.IsValid()
}
