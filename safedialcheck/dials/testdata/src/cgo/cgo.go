package cgo

// static int f(void) { return 1; }
import "C"

import "net"

func dial() {
	_ = C.f()
	net.Dial("tcp", "a:80")             // want `net.Dial does not use safedial; left as it is: it is used in a file that imports "C"`
	net.Dial("tcp", "a:80")             //safedial:ignore the server never stops
	(&net.Dialer{}).Dial("tcp", "a:80") // want `net.Dialer does not use safedial; left as it is: it is used in a file that imports "C"`
	shared.Dial("tcp", "a:80")
}
