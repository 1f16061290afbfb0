package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Values of the kernel's that netlink and unix lack.
const (
	boundInactive = 13 // TCP_BOUND_INACTIVE, from Linux 6.8
	timeWaitTimer = 3  // of inet_diag_msg's idiag_timer
)

// states are the kernel's, by their numbers. UDP sockets have two of them, which mean
// something else.
var states = map[uint8]string{
	netlink.TCP_ESTABLISHED: "ESTABLISHED",
	netlink.TCP_SYN_SENT:    "SYN_SENT",
	netlink.TCP_SYN_RECV:    "SYN_RECV",
	netlink.TCP_FIN_WAIT1:   "FIN_WAIT1",
	netlink.TCP_FIN_WAIT2:   "FIN_WAIT2",
	netlink.TCP_TIME_WAIT:   stateTimeWait,
	netlink.TCP_CLOSE:       stateBound,
	netlink.TCP_CLOSE_WAIT:  "CLOSE_WAIT",
	netlink.TCP_LAST_ACK:    "LAST_ACK",
	netlink.TCP_LISTEN:      stateListen,
	netlink.TCP_CLOSING:     "CLOSING",
	netlink.TCP_NEW_SYN_REC: "SYN_RECV",
	boundInactive:           stateBound,
}

// An inetDiagReq is struct inet_diag_req_v2, which asks for sockets.
type inetDiagReq struct {
	Family, Protocol uint8
	_                [2]uint8
	States           uint32
	_                [48]byte // the zero inet_diag_sockid: any socket
}

func (r inetDiagReq) Len() int { return binary.Size(r) }

func (r inetDiagReq) Serialize() []byte {
	message, err := binary.Append(nil, binary.NativeEndian, r)
	if err != nil {
		panic(err) // the type has no fixed size
	}
	return message
}

// An inetDiagMsg is struct inet_diag_msg, which describes a socket.
type inetDiagMsg struct {
	Family, State, Timer  uint8
	_                     uint8
	LocalPort, RemotePort [2]byte // of network byte order
	Local, Remote         [16]byte
	_                     [3]uint32
	Expires               uint32 // of Timer, in milliseconds
	_                     [3]uint32
	Inode                 uint32
}

var protocols = map[string]uint8{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP}

// sockets returns the TCP and UDP sockets of the network namespace, as sock_diag(7)
// reports them. A socket that comes or goes meanwhile may be missing. netlink's own
// functions leave out sockets that are bound only.
func sockets() ([]socket, error) {
	var found []socket
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		for network, protocol := range protocols {
			messages, err := dump(inetDiagReq{Family: family, Protocol: protocol, States: ^uint32(0)})
			if err != nil {
				return nil, fmt.Errorf("sock_diag: %s sockets: %w", network, err)
			}
			for _, m := range messages {
				found = append(found, m.socket(network))
			}
		}
	}
	return found, nil
}

func dump(r inetDiagReq) ([]inetDiagMsg, error) {
	request := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
	request.AddData(r)
	raw, err := request.Execute(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, err
	}
	messages := make([]inetDiagMsg, len(raw))
	for i := range raw {
		if _, err := binary.Decode(raw[i], binary.NativeEndian, &messages[i]); err != nil {
			return nil, err
		}
	}
	return messages, nil
}

func (m inetDiagMsg) socket(network string) socket {
	s := socket{
		network: network,
		local:   m.addrPort(m.Local, m.LocalPort),
		remote:  m.addrPort(m.Remote, m.RemotePort),
		state:   states[m.State],
		inode:   uint64(m.Inode),
	}
	if s.remote.Port() == 0 {
		s.remote = netip.AddrPort{}
	}
	if network == "udp" && m.State == netlink.TCP_CLOSE {
		s.state = stateUnconnected
	}
	if m.Timer == timeWaitTimer {
		// A timer can be a little late. It is not over while the socket is there.
		s.left = max(1, time.Duration(m.Expires)) * time.Millisecond
	}
	return s
}

func (m inetDiagMsg) addrPort(addr [16]byte, port [2]byte) netip.AddrPort {
	ip := netip.AddrFrom16(addr).Unmap()
	if m.Family == unix.AF_INET {
		ip = netip.AddrFrom4([4]byte(addr[:4]))
	}
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(port[:]))
}
