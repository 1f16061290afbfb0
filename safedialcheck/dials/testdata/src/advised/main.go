package main // want package:`transports http.Get in usesdefault/uses.go:6 false`

import (
	"usesdefault"
)

func main() { // want `http.DefaultTransport does not use safedial; left as it is: the program uses it \(http.Get in usesdefault/uses.go:6\); a line in main switches it: http.DefaultTransport.* \(-dials.defaulttransport adds it\)`
	usesdefault.Get()
}
