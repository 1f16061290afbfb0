package main // want package:`transports http.Get in program/main.go:10 false`

import (
	"net"
	"net/http"
)

func main() { // want `http.DefaultTransport does not use safedial`
	net.Dial("tcp", "a:80") // want `net.Dial does not use safedial`
	http.Get("http://a")
}
