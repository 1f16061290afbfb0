package safedial

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"
)

type controlFunc = func(ctx context.Context, network, address string, c syscall.RawConn) error

// settings returns a net.Dialer with the fields that the two have in common.
func (d *Dialer) settings() net.Dialer {
	nd := d.multipath
	nd.Timeout, nd.Deadline = d.Timeout, d.Deadline
	nd.LocalAddr = d.LocalAddr
	nd.DualStack = d.DualStack //lint:ignore SA1019 net.Dialer has it too
	nd.FallbackDelay = d.FallbackDelay
	nd.KeepAlive, nd.KeepAliveConfig = d.KeepAlive, d.KeepAliveConfig
	nd.Resolver = d.Resolver
	nd.Cancel = d.Cancel //lint:ignore SA1019 net.Dialer has it too
	nd.Control, nd.ControlContext = d.Control, d.ControlContext
	return nd
}

// deadline returns the time at which Timeout or Deadline ends a dial that begins
// now, the zero time if neither does.
func (d *Dialer) deadline() time.Time {
	if d.Timeout == 0 {
		return d.Deadline
	}
	end := time.Now().Add(d.Timeout)
	if !d.Deadline.IsZero() && d.Deadline.Before(end) {
		return d.Deadline
	}
	return end
}

// withCancel returns a context that ends when canceled is closed, too. net is not
// handed the channel, because net.Dialer of Go 1.26 leaves a goroutine behind
// (https://go.dev/issue/78531).
func withCancel(ctx context.Context, canceled <-chan struct{}) (context.Context, context.CancelFunc) {
	if canceled == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	select {
	case <-canceled:
		cancel()
	default:
		go func() {
			select {
			case <-canceled:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	return ctx, cancel
}

// callersControl returns the caller's hook in its newer form, or nil.
func (d *Dialer) callersControl() controlFunc {
	if d.ControlContext != nil || d.Control == nil {
		return d.ControlContext
	}
	control := d.Control
	return func(_ context.Context, network, address string, c syscall.RawConn) error {
		return control(network, address, c)
	}
}

// isTCP and isUDP report networks on which self-connections are prevented. They
// take the networks of a dial and those of a hook.
func isTCP(network string) bool { return network == "tcp" || network == "tcp4" || network == "tcp6" }

func isUDP(network string) bool { return network == "udp" || network == "udp4" || network == "udp6" }

// portLimits are the settings that limit the choice of the local port.
type portLimits struct {
	localPorts PortRange
	avoidPorts []uint16 // ascending
}

func (d *Dialer) portLimits() portLimits {
	if len(d.AvoidPorts) == 0 {
		return portLimits{localPorts: d.LocalPorts}
	}
	return portLimits{d.LocalPorts, slices.Sorted(slices.Values(d.AvoidPorts))}
}

// limited reports whether there is a limit.
func (l portLimits) limited() bool { return l.localPorts != (PortRange{}) || len(l.avoidPorts) > 0 }

// allows reports whether the system may choose port.
func (l portLimits) allows(port uint16) bool {
	_, avoided := slices.BinarySearch(l.avoidPorts, port)
	return !avoided && (l.localPorts == (PortRange{}) || l.localPorts.Contains(port))
}

// check reports LocalPorts that are the wrong way round.
func (l portLimits) check() error {
	if l.localPorts != (PortRange{}) && l.localPorts.Len() == 0 {
		return errLocalPortsReversed(l.localPorts)
	}
	return nil
}

// String describes the limits for an error.
func (l portLimits) String() string {
	if l.localPorts == (PortRange{}) {
		return fmt.Sprintf("avoid ports %v", l.avoidPorts)
	}
	return "local ports " + l.localPorts.String()
}

// bindable returns the address that a socket for network is bound to if LocalAddr
// is local. The address is not valid if there is nothing to bind, or if net refuses
// local before it makes a socket. It is ok unless net refuses local only later,
// when it would bind it. An empty network is any network.
func bindable(local net.Addr, network string) (from netip.AddrPort, ok bool) {
	var a *net.TCPAddr
	switch local := local.(type) {
	case *net.TCPAddr:
		if !isUDP(network) {
			a = local
		}
	case *net.UDPAddr:
		if !isTCP(network) {
			a = (*net.TCPAddr)(local)
		}
	}
	if a == nil {
		return from, true
	}
	addr, valid := netip.AddrFromSlice(a.IP)
	if addr = addr.Unmap(); len(a.IP) == 0 {
		addr, valid = netip.IPv4Unspecified(), true
	}
	if !valid || a.Port < 0 || a.Port > int(everyPort.High) ||
		strings.HasSuffix(network, "4") && !addr.Is4() ||
		strings.HasSuffix(network, "6") && addr.Is4() && !addr.IsUnspecified() {
		return from, false
	}
	if addr.Is6() {
		addr = addr.WithZone(a.Zone)
	}
	return netip.AddrPortFrom(addr, uint16(a.Port)), true
}
