package cgo

import "net"

var shared net.Dialer // want `left as it is: it may be used in cgo.go, which is not checked here`
