package usesdefault // want package:`transports http.Get in usesdefault/uses.go:6 false`

import "net/http"

// Get leaves the choice of http.DefaultTransport to programs.
func Get() { http.Get("http://a") }

func ignored() {
	http.Get("http://a") //safedial:ignore the server never stops
}
