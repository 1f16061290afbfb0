package transport // want package:`transports http.Client in transport/transport.go:55, http.Client in transport/transport.go:60, http.DefaultClient in transport/transport.go:58 false`

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httputil"
)

// HTTP/2 is demanded, or it is off already.
func fixed() {
	_ = &http.Transport{ForceAttemptHTTP2: true}        // want `http.Transport does not use safedial`
	_ = &http.Transport{TLSClientConfig: &tls.Config{}} // want `http.Transport does not use safedial`
	_ = http.Transport{                                 // want `http.Transport does not use safedial`
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}
	_ = []*http.Transport{{ForceAttemptHTTP2: true}} // want `http.Transport does not use safedial`
	_ = map[string]*tls.Dialer{"x": {}}              // want `tls.Dialer does not use safedial`
	_ = tls.Dialer{}                                 // want `tls.Dialer does not use safedial`
	_ = &tls.Dialer{Config: &tls.Config{}}           // want `tls.Dialer does not use safedial`
	_ = http.Client{Transport: &http.Transport{
		DialContext: (&net.Dialer{}).DialContext, // want `net.Dialer does not use safedial`
	}}
}

// Nothing to do.
func silent(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	_ = &http.Transport{DialContext: dial}
	t := &http.Transport{}
	t.DialContext = dial
	clone := http.DefaultTransport.(*http.Transport).Clone()
	clone.DialContext = dial
	c := http.Client{}
	c.Transport = t
	d := &tls.Dialer{}
	d.NetDialer = nil
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

func left(config *tls.Config) {
	_ = &http.Transport{}                        // want `left as it is: a DialContext turns off HTTP/2; set ForceAttemptHTTP2 too`
	_ = &http.Transport{TLSClientConfig: config} // want `left as it is: a DialContext turns off HTTP/2`
	_ = []*http.Transport{{}}                    // want `left as it is: a DialContext turns off HTTP/2`
	_ = new(http.Transport)                      // want `http.Transport does not use safedial; left as it is: a zero one dials by itself; set DialContext, and ForceAttemptHTTP2 too`
	var d tls.Dialer                             // want `tls.Dialer does not use safedial; left as it is: a zero one dials by itself; set NetDialer to d.NetDialer\(\)`
	d.Dial("tcp", "a:80")
}

// A line in main does not reach the copy.
var early = http.DefaultTransport.(*http.Transport).Clone() // want `left as it is: it is copied before main can set its DialContext`

// A line in main cures these.
func cured() {
	_ = &http.Client{}
	_ = &httputil.ReverseProxy{}
	http.Get("http://a")
	http.DefaultClient.Get("http://a")
	_ = http.DefaultTransport.(*http.Transport).Clone()
	var c http.Client
	c.Get("http://a")
}
