package intests

import (
	"net"
	"net/http"
)

func waitForPort() {
	for {
		if _, err := net.Dial("tcp", "localhost:40000"); err == nil { // want `net.Dial does not use safedial$`
			return
		}
		http.Get("http://localhost:40000") // want `http.Get does not use safedial; left as it is: it uses http.DefaultTransport; a line in TestMain switches it`
	}
}
