package shadow

import "net"

func dial(safedial string) {
	net.Dial("tcp", safedial)           // want `left as it is: the name safedial means something else here`
	(&net.Dialer{}).Dial("tcp", "a:80") // want `left as it is: the name safedial means something else here`
}
