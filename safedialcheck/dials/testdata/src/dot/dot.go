package dot

import . "net"

var shared Dialer // want `left as it is: package net is imported with a dot`

func dial() {
	Dial("tcp", "a:80")             // want `net.Dial does not use safedial; left as it is: package net is imported with a dot`
	(&Dialer{}).Dial("tcp", "a:80") // want `left as it is: package net is imported with a dot`
	shared.Dial("tcp", "a:80")
}
