package main

import (
	"net/http"
)

func main() { // want `http.DefaultTransport does not use safedial`
	http.ListenAndServe("", nil)
}
