// Package dialbench measures dialers side by side. Each has a process of its own,
// in network namespaces of its own, so that none sees the connections, the
// descriptors or the garbage of another.
package dialbench

import "syscall"

// A Scene is what is dialed, and from where.
type Scene struct {
	Name    string
	Network string // "" is "tcp"
	Address string

	// Want is the error that every dial must end with; 0: it connects.
	Want syscall.Errno

	// Apart puts the server into a process of its own. Otherwise it is in that of
	// the dialer, in goroutines, and its memory counts as the dial's.
	Apart bool

	// Away puts the server into another namespace, across a veth pair.
	Away bool

	LocalAddr  string // an IP and a port; "": none
	Goroutines int    // that dial at once; 0 is 1

	// HTTP is a request by http.Transport over a connection of its own.
	HTTP bool

	// TwoAddresses makes localhost ::1 and 127.0.0.1.
	TwoAddresses bool

	// Exhausted has other processes take every port to the server.
	Exhausted bool
}

const (
	here  = "10.77.1.1"
	there = "10.77.1.2"
)

// The local port range of the namespaces is the kernel's default.
const (
	firstPort = 32768
	lastPort  = 60999
	Ports     = lastPort - firstPort + 1 // that each has
)

// The scenes that are measured. Port 9000 lies outside of the local port range.
var (
	Outside   = Scene{Name: "accepted/outside/IPv4", Address: "127.0.0.1:9000"}
	Inside    = Scene{Name: "accepted/inside/IPv4", Address: "127.0.0.1:40000"}
	Outside6  = Scene{Name: "accepted/outside/IPv6", Address: "[::1]:9000"}
	Inside6   = Scene{Name: "accepted/inside/IPv6", Address: "[::1]:40000"}
	Apart     = Scene{Name: "accepted/apart/outside", Address: "127.0.0.1:9000", Apart: true}
	ApartIn   = Scene{Name: "accepted/apart/inside", Address: "127.0.0.1:40000", Apart: true}
	Refused   = Scene{Name: "refused", Address: "127.0.0.1:9000", Want: syscall.ECONNREFUSED}
	Veth      = Scene{Name: "veth", Address: there + ":9000", Away: true}
	VethApart = Scene{Name: "veth/apart", Address: there + ":9000", Away: true, Apart: true}
	LocalAddr = Scene{Name: "LocalAddr", Address: "127.0.0.1:9000", LocalAddr: "127.0.0.1:0", Apart: true}
	Hostname  = Scene{Name: "hostname", Address: "localhost:9000", Apart: true, TwoAddresses: true}
	HTTP      = Scene{Name: "http", Address: "127.0.0.1:9000", Apart: true, HTTP: true}
	UDP       = Scene{Name: "udp/outside", Network: "udp", Address: "127.0.0.1:9000"}
	UDPInside = Scene{Name: "udp/inside", Network: "udp", Address: "127.0.0.1:40000"}
	Exhausted = Scene{Name: "exhausted", Address: "127.0.0.1:9000", Want: syscall.EADDRNOTAVAIL, Exhausted: true}

	Goroutines8  = Scene{Name: "goroutines/8", Address: "127.0.0.1:9000", Apart: true, Goroutines: 8}
	Goroutines64 = Scene{Name: "goroutines/64", Address: "127.0.0.1:9000", Apart: true, Goroutines: 64}
)

// The dialers.
const (
	Net      = "net"      // net.Dialer
	Safedial = "safedial" // safedial.Dialer
	Floor    = "floor"    // socket, connect and close, blocking, by x/sys
)

func (s Scene) network() string {
	if s.Network == "" {
		return "tcp"
	}
	return s.Network
}
