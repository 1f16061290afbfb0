// Command http makes requests over connections that safedial dials, to a server
// that it starts: HTTP/1.1, and HTTP/2 over TLS with a certificate of its own. It
// prints what net/http/httptrace tells about each connection.
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"sync"
	"time"

	"github.com/safedial/safedial"
)

func main() {
	if err := run(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "http:", err)
		os.Exit(1)
	}
}

func run(out io.Writer) error {
	certificate, pool, err := newCertificate("localhost")
	if err != nil {
		return err
	}
	plain, err := start(nil)
	if err != nil {
		return err
	}
	defer plain.Close()
	secure, err := start(&tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		return err
	}
	defer secure.Close()

	d := safedial.Dialer{Timeout: 5 * time.Second}
	transport := http.DefaultTransport.(*http.Transport).Clone() // keeps HTTP/2 and proxies
	transport.DialContext = d.DialContext
	transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	for _, url := range []string{"http://" + plain.Addr, "https://" + secure.Addr} {
		if err := get(client, url, out); err != nil {
			return err
		}
	}
	return nil
}

// start serves on a port of the system's choice, over TLS if there is a config,
// and leaves the address in the server.
func start(config *tls.Config) (*http.Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return nil, err
	}
	server := &http.Server{
		Addr:              net.JoinHostPort("localhost", port),
		ReadHeaderTimeout: 5 * time.Second,
		TLSConfig:         config,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "hello over %s", r.Proto)
		}),
	}
	go func() {
		if config == nil {
			_ = server.Serve(l)
		} else {
			_ = server.ServeTLS(l, "", "")
		}
	}()
	return server, nil
}

func get(client *http.Client, url string, out io.Writer) error {
	fmt.Fprintln(out, "GET", url)
	var mu sync.Mutex // net dials two addresses at a time
	tell := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(out, "  "+format+"\n", args...)
	}
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		DNSStart:     func(i httptrace.DNSStartInfo) { tell("look %s up", i.Host) },
		DNSDone:      func(i httptrace.DNSDoneInfo) { tell("found %v, error %v", i.Addrs, i.Err) },
		ConnectStart: func(network, addr string) { tell("connect to %s %s", network, addr) },
		ConnectDone:  func(network, addr string, err error) { tell("connected to %s %s, error %v", network, addr, err) },
		TLSHandshakeDone: func(state tls.ConnectionState, err error) {
			tell("TLS with %q, error %v", state.NegotiatedProtocol, err)
		},
		GotConn: func(i httptrace.GotConnInfo) {
			tell("connection of type %T, to itself: %t", i.Conn, safedial.IsSelfConnect(i.Conn))
		},
	})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	tell("%s: %s", response.Status, body)
	return nil
}
