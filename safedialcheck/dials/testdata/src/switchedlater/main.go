package main // want package:`transports http.Client in switchedlater/main.go:10, http.Get in switchedlater/main.go:9 true`

import "net/http"

func main() {
	if t, ok := http.DefaultTransport.(*http.Transport); ok {
		t.DialContext = nil
	}
	http.Get("http://a")
	_ = http.Client{}
}
