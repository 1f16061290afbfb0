package main

import (
	"net"
	"net/http"
)

func main() { // want `http.DefaultTransport does not use safedial`
	net.Dial("tcp", "a:80") // want `net.Dial does not use safedial`
	http.ListenAndServe("", nil)
}
