package safedial

import (
	"context"
	"net"
	"strings"
)

// DialTarget connects to a target in the form that gRPC hands to a custom
// dialer, so that the method fits grpc.WithContextDialer as it is:
//
//	host:port             TCP
//	unix:path             a Unix socket, the path relative or absolute
//	unix:///path          a Unix socket
//	unix:@name            an abstract Unix socket (Linux, unix(7)), as are
//	unix-abstract:name    this one
//	\x00name              and this one
//
// It is DialContext with the network and the address that the target names, and
// has its errors. A host called "unix" needs a final dot: "unix.:80".
func (d *Dialer) DialTarget(ctx context.Context, target string) (net.Conn, error) {
	network, address := parseTarget(target)
	return d.DialContext(ctx, network, address)
}

// parseTarget follows grpc-go's internal/transport, but does not decode a path
// as a URL: there a custom dialer gets the path as it is.
func parseTarget(target string) (network, address string) {
	if strings.HasPrefix(target, "\x00") {
		return "unix", target
	}
	scheme, rest, _ := strings.Cut(target, ":")
	switch scheme {
	case "unix":
		return "unix", strings.TrimPrefix(rest, "//")
	case "unix-abstract":
		return "unix", "@" + strings.TrimPrefix(rest, "//")
	}
	return "tcp", target
}
