package main

import "net"

func main() { // want `http.DefaultTransport does not use safedial`
	net.Dial("tcp", "a:80") // want `net.Dial does not use safedial`
}
