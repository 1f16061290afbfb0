package proof

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

const (
	livePort   = "40000" // in the local port range, with a server
	unusedPort = "9"     // below it, without one
)

// parityCases are all the rows; dir has a Unix socket that listens.
func parityCases(dir string) []parityCase {
	rows := slices.Concat(
		settingRows(),
		localAddrRows(),
		badLocalAddrRows(),
		controlRows(),
		addressRows(),
		endedRows(dir),
		networkRows(dir),
		methodRows(dir),
	)
	for _, c := range nstest.Destinations {
		rows = append(rows,
			parityCase{name: "live " + c.Host, network: c.Network, address: live(c.Host)},
			parityCase{name: "closed " + c.Host, network: c.Network, address: closed(c.Host)})
	}
	if portable {
		return rows // a retry shows more of net's sockets
	}
	return append(rows, parityCase{
		name: "no port left", address: live("127.0.0.1"), but: calledOnce,
		before: func(t *testing.T) { takePorts(t, "127.0.0.1:"+livePort, 40001, 40003) },
	})
}

func live(host string) string   { return net.JoinHostPort(host, livePort) }
func closed(host string) string { return net.JoinHostPort(host, unusedPort) }

// settingRows are the fields that are handed to net.
func settingRows() []parityCase {
	return []parityCase{
		{name: "keep-alive off", address: live("127.0.0.1"), dialer: net.Dialer{KeepAlive: -1}},
		{name: "keep-alive period", address: live("127.0.0.1"), dialer: net.Dialer{KeepAlive: 42 * time.Second}},
		{
			name:    "keep-alive config",
			address: live("127.0.0.1"),
			dialer: net.Dialer{
				KeepAlive:       -1,
				KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 11 * time.Second, Interval: 7 * time.Second, Count: 3},
			},
		},
		{
			name:    "keep-alive config as it is",
			address: live("127.0.0.1"),
			dialer:  net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}},
		},
		{
			name:    "keep-alive config not enabled",
			address: live("127.0.0.1"),
			dialer:  net.Dialer{KeepAlive: -1, KeepAliveConfig: net.KeepAliveConfig{Idle: time.Second}},
		},
		{name: "timeout", address: live("127.0.0.1"), dialer: net.Dialer{Timeout: time.Minute}},
		{name: "deadline", address: live("127.0.0.1"), dialer: net.Dialer{Deadline: time.Now().Add(time.Hour)}},
		{
			name:    "timeout and deadline",
			address: live("127.0.0.1"),
			dialer:  net.Dialer{Timeout: time.Minute, Deadline: time.Now().Add(time.Hour)},
		},
		{name: "context deadline", address: live("127.0.0.1"), ctx: within(time.Minute)},
		{
			name:    "Cancel never closed",
			address: live("127.0.0.1"),
			dialer:  net.Dialer{Cancel: make(chan struct{})}, //nolint:staticcheck // SA1019: net.Dialer has it too
		},
		{
			name:    "DualStack",
			address: live("localhost"),
			dialer:  net.Dialer{DualStack: true}, //nolint:staticcheck // SA1019: net.Dialer has it too
		},
		{name: "no fast fallback", address: live("localhost"), dialer: net.Dialer{FallbackDelay: -1}},
		{name: "Resolver", address: live("localhost"), dialer: net.Dialer{Resolver: &net.Resolver{PreferGo: true}}},
		{name: "multipath", address: live("127.0.0.1"), mptcp: true},
		{name: "multipath IPv6", address: live("::1"), mptcp: true},
		{name: "multipath refused", address: closed("127.0.0.1"), mptcp: true},
		{
			name:    "multipath from an address",
			address: live("127.0.0.1"),
			mptcp:   true,
			dialer:  net.Dialer{LocalAddr: tcp("127.0.0.1", 0)},
		},
	}
}

// localAddrRows are addresses to dial from.
func localAddrRows() []parityCase {
	return []parityCase{
		{name: "from an address", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp("127.0.0.1", 0)}},
		{name: "from another address", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp(nstest.OwnAddress, 0)}},
		{name: "from an IPv6 address", address: live("::1"), dialer: net.Dialer{LocalAddr: tcp("::1", 0)}},
		{name: "from a port", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp("127.0.0.1", 9999)}},
		{
			name:    "from a port of any address",
			address: live("127.0.0.1"),
			dialer:  net.Dialer{LocalAddr: &net.TCPAddr{Port: 9999}},
		},
		{name: "from anywhere", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: &net.TCPAddr{}}},
		{name: "from any IPv4 address", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp("0.0.0.0", 0)}},
		{
			name:      "from any IPv6 address to IPv4",
			needsIPv6: true,
			but:       asIPv4,
			address:   live("127.0.0.1"),
			dialer:    net.Dialer{LocalAddr: tcp("::", 0)},
		},
		{name: "from any IPv6 address to IPv6", address: live("::1"), dialer: net.Dialer{LocalAddr: tcp("::", 0)}},
		{name: "from a nil pointer", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: (*net.TCPAddr)(nil)}},
		{
			name:    "from a nil pointer, refused",
			address: closed("127.0.0.1"),
			dialer:  net.Dialer{LocalAddr: (*net.TCPAddr)(nil)},
		},
		{name: "from an address, by name", address: live("localhost"), dialer: net.Dialer{LocalAddr: tcp("127.0.0.1", 0)}},
		{
			name:      "from an IPv6 address, by name",
			needsIPv6: true,
			address:   live("localhost"),
			dialer:    net.Dialer{LocalAddr: tcp("::1", 0)},
		},
		{name: "from an address, refused", address: closed("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp("127.0.0.1", 0)}},
		{name: "from a port, refused", address: closed("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp("127.0.0.1", 9999)}},
		{name: "from a foreign address", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp("192.0.2.1", 0)}},
		{name: "from a foreign port", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp("192.0.2.1", 9999)}},
		{name: "from a taken port", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp("127.0.0.1", 40000)}},
		{name: "from an IPv6 address to any", but: uncalled, dial: func(m dialer, ctx context.Context) (net.Conn, error) {
			return m.DialContext(ctx, "tcp", live("0.0.0.0"))
		}, dialer: net.Dialer{LocalAddr: tcp("::1", 0)}},
		{name: "from the other family", address: live("127.0.0.1"), dialer: net.Dialer{LocalAddr: tcp("::1", 0)}},
		{
			name:    "from a UDP address",
			address: live("127.0.0.1"),
			dialer:  net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}},
		},
		{
			name:    "from an IP address",
			address: live("127.0.0.1"),
			dialer:  net.Dialer{LocalAddr: &net.IPAddr{IP: net.IPv4(127, 0, 0, 1)}},
		},
		{
			name:    "from a unix address",
			address: live("127.0.0.1"),
			dialer:  net.Dialer{LocalAddr: &net.UnixAddr{Name: "x", Net: "unix"}},
		},
		{
			name:    "from a port of any IPv4 address to IPv6",
			address: live("::1"),
			dialer:  net.Dialer{LocalAddr: tcp("0.0.0.0", 9999)},
		},
		{
			name:      "from a port of any IPv6 address to IPv4",
			needsIPv6: true,
			but:       asIPv4,
			address:   live("127.0.0.1"),
			dialer:    net.Dialer{LocalAddr: tcp("::", 9999)},
		},
		{
			name:    "from an address of no length",
			address: live("127.0.0.1"),
			dialer:  net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IP{1, 2, 3}}},
		},
	}
}

// badLocalAddrRows are addresses that net refuses to bind: they must not be cut to
// something else.
func badLocalAddrRows() (rows []parityCase) {
	for _, ip := range []net.IP{nil, {127, 0, 0, 1}, {1, 2, 3}, net.IPv6loopback} {
		for _, port := range []int{-1, 65536, 70000} {
			local := &net.TCPAddr{IP: ip, Port: port}
			rows = append(
				rows,
				parityCase{
					name:    fmt.Sprintf("TCP from %s", local),
					address: closed("127.0.0.1"),
					dialer:  net.Dialer{LocalAddr: local},
				},
				parityCase{
					name:    fmt.Sprintf("UDP from %s", local),
					network: "udp",
					address: closed("127.0.0.1"),
					dialer:  net.Dialer{LocalAddr: (*net.UDPAddr)(local)},
				},
			)
		}
	}
	return rows
}

// controlRows are what the caller's hook can do.
func controlRows() []parityCase {
	failing := errors.New("refused by the caller's hook")
	refuse := func(string, string, syscall.RawConn) error { return failing }
	return []parityCase{
		{name: "Control refuses", address: live("127.0.0.1"), dialer: net.Dialer{Control: refuse}},
		{name: "Control refuses each address", address: live("localhost"), dialer: net.Dialer{Control: refuse}},
		{name: "ControlContext before Control", address: live("127.0.0.1"), dialer: net.Dialer{
			Control:        refuse,
			ControlContext: func(context.Context, string, string, syscall.RawConn) error { return nil },
		}},
		{name: "ControlContext refuses", address: live("127.0.0.1"), dialer: net.Dialer{
			ControlContext: func(context.Context, string, string, syscall.RawConn) error { return failing },
		}},
		{name: "Control binds", address: live("127.0.0.1"), dialer: net.Dialer{Control: bindControl("127.0.0.1")}},
		{name: "Control binds, refused", address: closed("127.0.0.1"), dialer: net.Dialer{Control: bindControl("127.0.0.1")}},
		{
			name:    "Control binds a foreign address",
			address: live("127.0.0.1"),
			dialer:  net.Dialer{Control: bindControl("192.0.2.1")},
		},
		{
			name:    "Control and LocalAddr bind",
			address: live("127.0.0.1"),
			dialer:  net.Dialer{LocalAddr: tcp("127.0.0.1", 0), Control: bindControl("127.0.0.1")},
		},
		{
			name:    "Control sets an option",
			address: live("127.0.0.1"),
			dialer:  net.Dialer{Control: setOption(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)},
		},
		{name: "Control lingers", address: live("127.0.0.1"), dialer: net.Dialer{Control: setLinger(5)}},
		{name: "Control resets", address: live("127.0.0.1"), dialer: net.Dialer{Control: setLinger(0)}},
		{
			name:    "Control lingers, from an address",
			address: live("127.0.0.1"),
			dialer:  net.Dialer{LocalAddr: tcp("127.0.0.1", 0), Control: setLinger(5)},
		},
		{
			name:    "Control lingers, from anywhere",
			address: live("127.0.0.1"),
			dialer:  net.Dialer{LocalAddr: &net.TCPAddr{}, Control: setLinger(5)},
		},
		{name: "Control connects", address: live("127.0.0.1"), dialer: net.Dialer{Control: onSocket(func(fd int) error {
			if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 40000}); err != unix.EINPROGRESS {
				return err
			}
			return nil
		})}},
	}
}

// addressRows are networks and addresses that net refuses, or nobody answers at.
func addressRows() []parityCase {
	return []parityCase{
		{name: "unknown network", network: "tcp5", address: live("127.0.0.1")},
		{name: "no network", network: "-", address: live("127.0.0.1")},
		{name: "IP network without a protocol", network: "ip4", address: "127.0.0.1"},
		{name: "no address", address: ""},
		{name: "no port", address: "127.0.0.1"},
		{name: "empty port", address: "127.0.0.1:"},
		{name: "port 0", address: "127.0.0.1:0"},
		{name: "port too high", address: "127.0.0.1:65536"},
		{name: "negative port", address: "127.0.0.1:-1"},
		{name: "highest port", address: "127.0.0.1:65535"},
		{name: "lowest port", address: "127.0.0.1:1"},
		{name: "unknown service", address: "127.0.0.1:no-such-service"},
		{name: "service", address: "127.0.0.1:discard"},
		{name: "too many colons", address: "::1:80"},
		{name: "no closing bracket", address: "[::1:80"},
		{name: "name with a space", address: "no such host:80"},
		{name: "IPv6 on tcp4", network: "tcp4", address: live("::1")},
		{name: "IPv4 on tcp6", network: "tcp6", address: live("127.0.0.1")},
		{name: "v4-mapped on tcp6", network: "tcp6", address: live("::ffff:127.0.0.1")},
		{name: "IPv6 wildcard on tcp4", network: "tcp4", address: live("::")},
		{name: "IPv4 wildcard on tcp6", network: "tcp6", address: live("0.0.0.0")},
		{name: "unknown zone", address: "[fe80::1%nosuchzone]:80"},
		{name: "zone of another kind", address: "[::1%lo]:40000"},
		{name: "zone by number", address: "[fe80::1%1]:80"},
		{name: "zone too long", address: "[fe80::1%an-interface-name-too-long]:80"},
		{name: "unreachable", address: "192.0.2.1:80"},
		{name: "unreachable IPv6", address: "[2001:db8::1]:80"},
		{name: "unreachable, from anywhere", address: "192.0.2.1:80", dialer: net.Dialer{LocalAddr: &net.TCPAddr{}}},
		{name: "unreachable IPv6, from anywhere", address: "[2001:db8::1]:80", dialer: net.Dialer{LocalAddr: &net.TCPAddr{}}},
		{name: "broadcast, from anywhere", address: "255.255.255.255:80", dialer: net.Dialer{LocalAddr: &net.TCPAddr{}}},
		{name: "broadcast", address: "255.255.255.255:80"},
		{name: "loopback broadcast", address: "127.255.255.255:80"},
		{name: "multicast", address: "224.0.0.1:80"},
	}
}
