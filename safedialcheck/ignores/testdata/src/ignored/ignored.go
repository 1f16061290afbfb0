package ignored

import "net"

func dial() {
	net.Dial("tcp", "a:80") //safedial:ignore the server never stops
	//safedial:ignore the server never stops
	net.Dial("tcp", "a:80")
	//safedial:ignore the port is reserved
	// It is on all hosts.
	net.Listen("tcp", ":40000")

	net.Dial("unix", "/socket") /* want `safedial:ignore suppresses no report; remove it` */ //safedial:ignore the server never stops
	/* want `safedial:ignore suppresses no report; remove it` */ //safedial:ignore it is for this line only
	net.Dial("unix", "/socket")
	net.Dial("tcp", "a:80") /* want `safedial:ignore needs a reason after it` */ //safedial:ignore
	//safedial:ignored is another word
}
