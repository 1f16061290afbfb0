package main // want package:`transports http.Get in usesdefault/uses.go:6 true`

import (
	"net/http"

	"usesdefault"
)

func main() {
	http.DefaultTransport.(*http.Transport).DialContext = nil
	http.ListenAndServe("", nil)
	usesdefault.Get()
}
