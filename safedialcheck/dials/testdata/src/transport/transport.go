package transport

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
	_ = tls.Dialer{}                       // want `tls.Dialer does not use safedial`
	_ = &tls.Dialer{Config: &tls.Config{}} // want `tls.Dialer does not use safedial`
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
	_ = &http.Transport{}                               // want `left as it is: a DialContext turns off HTTP/2; set ForceAttemptHTTP2 too`
	_ = &http.Transport{TLSClientConfig: config}        // want `left as it is: a DialContext turns off HTTP/2`
	_ = &http.Client{}                                  // want `http.Client does not use safedial; left as it is: without a Transport it uses http.DefaultTransport; a line in main`
	_ = &httputil.ReverseProxy{}                        // want `left as it is: without a Transport`
	http.Get("http://a")                                // want `http.Get does not use safedial; left as it is: it uses http.DefaultTransport`
	http.DefaultClient.Get("http://a")                  // want `http.DefaultClient does not use safedial`
	_ = http.DefaultTransport.(*http.Transport).Clone() // want `http.DefaultTransport does not use safedial`
}
