package narrow

import "net"

func listen() {
	net.Listen("tcp", ":8080") // want `port 8080 lies in the local port range 8000-9000`
	net.Listen("tcp", ":40000")
}
