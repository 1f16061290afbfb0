package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"

	"helper"
)

const (
	address = "127.0.0.1:38989"
	port    = 39138
)

func direct() {
	net.Listen("tcp", "127.0.0.1:33333")                                // want `port 33333 lies in the local port range 32768-60999: an outgoing connection may have it, and then listening on it fails with "address already in use"; listen on a port below the range, listen on port 0 and keep the listener open, or reserve the port \(net.ipv4.ip_local_reserved_ports\)`
	net.Listen("tcp", address)                                          // want `port 38989`
	net.ListenPacket("udp", "[::1]:44892")                              // want `port 44892`
	net.ListenTCP("tcp", &net.TCPAddr{Port: 40000})                     // want `port 40000`
	net.ListenUDP("udp", &net.UDPAddr{Port: port})                      // want `port 39138`
	tls.Listen("tcp", ":60999", nil)                                    // want `port 60999`
	http.ListenAndServe(":32768", nil)                                  // want `port 32768`
	http.ListenAndServeTLS(":40001", "", "", nil)                       // want `port 40001`
	new(net.ListenConfig).Listen(context.Background(), "tcp", ":40002") // want `port 40002`
	_ = http.Server{Addr: ":40003"}                                     // want `port 40003`
	var s http.Server
	s.Addr = ":40004"               // want `port 40004`
	helper.Start("localhost:40005") // want `port 40005`
	c := helper.Config{Port: 40006} // want `port 40006`
	c.Run()
}

func built() {
	net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(40010))           // want `port 40010`
	net.Listen("tcp", net.JoinHostPort("::1", "40011"))           // want `port 40011`
	net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 40012))         // want `port 40012`
	net.Listen("tcp", fmt.Sprintf("%s:40013", "127.0.0.1"))       // want `port 40013`
	net.Listen("tcp", net.JoinHostPort("::1", fmt.Sprint(40018))) // want `port 40018`
	net.Listen("tcp", returned())
	local := "127.0.0.1:40014" // want `port 40014`
	net.Listen("tcp", local)
	resolved, _ := net.ResolveTCPAddr("tcp", "127.0.0.1:40015") // want `port 40015`
	net.ListenTCP("tcp", resolved)
	net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:40016"))) // want `port 40016`
	net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.Addr{}, 40017)))    // want `port 40017`
}

func returned() string {
	if port > 0 {
		return ":40019" // want `port 40019`
	}
	return ":80"
}

type config struct {
	name string
	port uint16
}

var shared = ":40020" // want `port 40020`

func handed() {
	start("127.0.0.1:40021") // want `port 40021`
	start(address)           // want `port 38989`
	start(shared)
	startConfig(config{"a", 40022})                  // want `port 40022`
	startConfig(config{name: "b", port: 40023})      // want `port 40023`
	for _, each := range []string{":40024", ":80"} { // want `port 40024`
		start(each)
	}
	for _, each := range []struct{ at string }{{at: ":40025"}, {":40026"}} { // want `port 40025` `port 40026`
		start(each.at)
	}
	literal := func(at string) { net.Listen("tcp", at) } // want at:"listens"
	literal(":40027")                                    // want `port 40027`
	start(":8080", ":40028")                             // want `port 40028`
}

func start(at ...string) { // want at:"listens"
	for i := range at {
		other := at[i]
		net.Listen("tcp", other)
	}
	first(at)
}

func first(at []string) { listen(at[0]) } // want at:"listens"

func listen(at string) { net.Listen("tcp", at) } // want at:"listens"

func startConfig(c config) { // its port is one of this package
	net.Listen("tcp", fmt.Sprintf(":%d", c.port))
}

func fine() {
	net.Listen("tcp", "127.0.0.1:0")
	net.Listen("tcp", ":8080")
	net.Listen("tcp", ":32767")
	net.Listen("tcp", ":61000")
	net.Listen("tcp", "localhost:http")
	net.Listen("unix", "/run/40000")
	net.Dial("tcp", "127.0.0.1:40000")
	helper.Dial("127.0.0.1:40000")
	_ = helper.Config{Port: 80}
	_ = config{port: 80}
	net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
}

type mock struct{ at *net.TCPAddr }

// The port of the mock's address is no path to the other's.
func mocked(l net.Listener) {
	m := mock{at: &net.TCPAddr{Port: 54321}}
	m.at.Port = 54322
	net.Listen("tcp", fmt.Sprintf(":%d", l.Addr().(*net.TCPAddr).Port))
}

func ignored() {
	net.Listen("tcp", ":40030") //safedial:ignore the port is reserved
	//safedial:ignore the port is reserved
	net.Listen("tcp", ":40031")
}
