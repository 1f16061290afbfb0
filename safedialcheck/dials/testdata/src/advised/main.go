package main

import "net/http"

func main() { // want `http.DefaultTransport does not use safedial; left as it is: packages of this program may use it; a line in main switches it: http.DefaultTransport`
	http.ListenAndServe("", nil)
}
