package safedial_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"time"

	"github.com/safedial/safedial"
)

// greet starts a server that says hello.
func greet() net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "hello")
			_ = conn.Close()
		}
	}()
	return l
}

// read prints what a connection has to say, and closes it.
func read(conn net.Conn) {
	defer conn.Close()
	text, err := io.ReadAll(conn)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%T: %s\n", conn, text)
}

func Example() {
	l := greet()
	defer l.Close()

	d := safedial.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	conn, err := d.DialContext(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	read(conn)
	// Output: *net.TCPConn: hello
}

func ExampleDial() {
	l := greet()
	defer l.Close()

	conn, err := safedial.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	read(conn)
	// Output: *net.TCPConn: hello
}

func ExampleDialTimeout() {
	_, err := safedial.DialTimeout("tcp", "127.0.0.1:40000", -1) // a negative timeout has expired already
	var netErr net.Error
	fmt.Println(errors.As(err, &netErr) && netErr.Timeout())
	// Output: true
}

func ExampleDialContext() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "hello")
	}))
	defer server.Close()

	transport := http.DefaultTransport.(*http.Transport).Clone() // keeps HTTP/2 and the proxy settings
	transport.DialContext = safedial.DialContext
	client := http.Client{Transport: transport, Timeout: 5 * time.Second} // DialContext has none of its own
	response, err := client.Get(server.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	fmt.Println(string(body), err)
	// Output: hello <nil>
}

func ExampleDialTCP() {
	l := greet()
	defer l.Close()

	conn, err := safedial.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		log.Fatal(err)
	}
	read(conn)
	// Output: *net.TCPConn: hello
}

func ExampleDialUDP() {
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer packets.Close()

	conn, err := safedial.DialUDP("udp", nil, packets.LocalAddr().(*net.UDPAddr))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Println(safedial.IsSelfConnect(conn))
	// Output: false
}

// A program that is handed a net.Dialer keeps its settings.
func ExampleFrom() {
	l := greet()
	defer l.Close()

	nd := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	conn, err := safedial.From(nd).Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	read(conn)
	// Output: *net.TCPConn: hello
}

func ExampleDialer_DialTCP() {
	l := greet()
	defer l.Close()

	d := safedial.Dialer{Timeout: 5 * time.Second}
	remote := l.Addr().(*net.TCPAddr).AddrPort()
	conn, err := d.DialTCP(context.Background(), "tcp", netip.AddrPort{}, remote)
	if err != nil {
		log.Fatal(err)
	}
	read(conn)
	// Output: *net.TCPConn: hello
}

func ExampleDialer_DialUDP() {
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer packets.Close()

	d := safedial.Dialer{Timeout: 5 * time.Second}
	remote := packets.LocalAddr().(*net.UDPAddr).AddrPort()
	conn, err := d.DialUDP(context.Background(), "udp", netip.AddrPort{}, remote)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Println(safedial.IsSelfConnect(conn))
	// Output: false
}

// DialTarget fits grpc.WithContextDialer as it is:
//
//	grpc.NewClient(target, grpc.WithContextDialer(d.DialTarget), …)
func ExampleDialer_DialTarget() {
	l := greet()
	defer l.Close()

	d := safedial.Dialer{Timeout: 5 * time.Second}
	conn, err := d.DialTarget(context.Background(), l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	read(conn)
	_, err = d.DialTarget(context.Background(), "unix:///no/such/socket")
	fmt.Println(err)
	// Output:
	// *net.TCPConn: hello
	// dial unix /no/such/socket: connect: no such file or directory
}

func ExampleDialer_NetDialer() {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	config := server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.ServerName = "example.com"

	d := safedial.Dialer{Timeout: 5 * time.Second}
	conn, err := tls.DialWithDialer(d.NetDialer(), "tcp", server.Listener.Addr().String(), config)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Println(conn.ConnectionState().HandshakeComplete)
	// Output: true
}

func ExampleDialer_Dial() {
	l := greet()
	defer l.Close()

	d := safedial.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}
	conn, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	read(conn)
	// Output: *net.TCPConn: hello
}

func ExampleDialer_DialTimeout() {
	l := greet()
	defer l.Close()

	conn, err := new(safedial.Dialer).DialTimeout("tcp", l.Addr().String(), 5*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	read(conn)
	// Output: *net.TCPConn: hello
}

// An IP socket needs root.
func ExampleDialer_DialIP() {
	d := safedial.Dialer{Timeout: 5 * time.Second}
	conn, err := d.DialIP(context.Background(), "ip4:icmp", netip.Addr{}, netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Println(conn.RemoteAddr())
}

func ExampleDialer_SetMultipathTCP() {
	var d safedial.Dialer
	d.SetMultipathTCP(true)
	fmt.Println(d.MultipathTCP())
	// Output: true
}

// A program that listens on port 40000 from time to time keeps its own connections off
// that port. This requires Linux 6.3.
func ExampleDialer_avoidPorts() {
	d := safedial.Dialer{Timeout: 5 * time.Second, AvoidPorts: safedial.Ports(40000)}
	conn, err := d.Dial("tcp", "example.com:443")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Println(conn.LocalAddr())
}

func ExampleIsSelfConnect() {
	// A UDP socket can be connected to itself explicitly. A TCP socket becomes so by chance.
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	addr := packets.LocalAddr().(*net.UDPAddr)
	_ = packets.Close()
	conn, err := net.DialUDP("udp", addr, addr)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Println(safedial.IsSelfConnect(conn))
	// Output: true
}

func ExamplePortRange() {
	r := safedial.PortRange{Low: 32768, High: 60999}
	fmt.Println(r, r.Len(), r.Contains(40000), r.Contains(5432))
	// Output: 32768-60999 28232 true false
}

// AvoidPorts takes single ports and ranges, such as Kubernetes' NodePorts.
func ExamplePorts() {
	d := safedial.Dialer{AvoidPorts: append(safedial.Ports(40000, 40002), safedial.PortRange{Low: 30000, High: 32767})}
	fmt.Println(d.AvoidPorts)
	// Output: [40000 40002 30000-32767]
}

func ExampleLocalPortRange() {
	r, err := safedial.LocalPortRange()
	if errors.Is(err, errors.ErrUnsupported) {
		return // not Linux, macOS or FreeBSD
	}
	fmt.Println("outgoing connections have ports", r)
}

func ExampleReservedPorts() {
	ranges, err := safedial.ReservedPorts()
	if errors.Is(err, errors.ErrUnsupported) {
		return // not Linux, macOS or FreeBSD
	}
	var list []string
	for _, r := range ranges {
		list = append(list, r.String())
	}
	fmt.Println("except for ports", strings.Join(list, ","))
}

func ExampleIsEphemeral() {
	const port = 40000
	if ephemeral, err := safedial.IsEphemeral(port); err == nil && ephemeral {
		fmt.Println("a server should not listen on port", port)
	}
}
