package generated

import "net"

func dialInTest() { net.Dial("tcp", "a:80") }
