package safedial

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

type controlFunc = func(ctx context.Context, network, address string, c syscall.RawConn) error

// From returns a Dialer with the settings of nd, Multipath TCP included, for a program
// that has a net.Dialer. Later changes to nd do not affect it. nd must not be nil.
func From(nd *net.Dialer) *Dialer {
	return &Dialer{
		Timeout:         nd.Timeout,
		Deadline:        nd.Deadline,
		LocalAddr:       nd.LocalAddr,
		DualStack:       nd.DualStack, //nolint:staticcheck // SA1019: net.Dialer has it too
		FallbackDelay:   nd.FallbackDelay,
		KeepAlive:       nd.KeepAlive,
		KeepAliveConfig: nd.KeepAliveConfig,
		Resolver:        nd.Resolver,
		Cancel:          nd.Cancel, //nolint:staticcheck // SA1019: net.Dialer has it too
		Control:         nd.Control,
		ControlContext:  nd.ControlContext,
		multipath:       *nd,
	}
}

// settings returns a net.Dialer with the fields that the two have in common.
func (d *Dialer) settings() net.Dialer {
	nd := d.multipath
	nd.Timeout, nd.Deadline = d.Timeout, d.Deadline
	nd.LocalAddr = d.LocalAddr
	nd.DualStack = d.DualStack //nolint:staticcheck // SA1019: net.Dialer has it too
	nd.FallbackDelay = d.FallbackDelay
	nd.KeepAlive, nd.KeepAliveConfig = d.KeepAlive, d.KeepAliveConfig
	nd.Resolver = d.Resolver
	nd.Cancel = d.Cancel //nolint:staticcheck // SA1019: net.Dialer has it too
	nd.Control, nd.ControlContext = d.Control, d.ControlContext
	return nd
}

// policy returns d's settings for retries.
func (d *Dialer) policy() retryPolicy {
	if d.MaxRetries == 0 {
		return retryPolicy{max: immediateRetries, onRetry: d.OnRetry}
	}
	return retryPolicy{max: max(0, d.MaxRetries), onRetry: d.OnRetry}
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

// bound returns a context that ends with a dial that begins now: when ctx does, at d's
// Timeout or Deadline, or when d.Cancel is closed. net is not given that channel, because
// net.Dialer of Go 1.26 leaves a goroutine behind (https://go.dev/issue/78531).
func (d *Dialer) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	cancel := func() {}
	if end := d.end(); !end.IsZero() {
		ctx, cancel = context.WithDeadline(ctx, end)
	}
	canceled := d.Cancel
	if canceled == nil {
		return ctx, cancel
	}

	ctx, cancelCtx := context.WithCancel(ctx)
	select {
	case <-canceled:
		cancelCtx()
	default:
		go func() {
			select {
			case <-canceled:
				cancelCtx()
			case <-ctx.Done():
			}
		}()
	}
	return ctx, func() {
		cancelCtx()
		cancel()
	}
}

// end returns when Timeout or Deadline end a dial that begins now, the zero time if
// neither does.
func (d *Dialer) end() time.Time {
	if d.Timeout == 0 {
		return d.Deadline
	}
	end := time.Now().Add(d.Timeout)
	if !d.Deadline.IsZero() && d.Deadline.Before(end) {
		return d.Deadline
	}
	return end
}

// suits reports whether net dials dest from local. If local is a *net.TCPAddr with an IP
// that is empty, but not nil, net dials only the host itself from it.
func suits(local net.Addr, dest netip.Addr) bool {
	a, _ := local.(*net.TCPAddr)
	return a == nil || a.IP == nil || len(a.IP) > 0 || dest.IsUnspecified()
}

// isTCP and isUDP report the networks on which self-connections are prevented. They
// take the networks of a dial, and those of a hook.
func isTCP(network string) bool { return network == "tcp" || network == "tcp4" || network == "tcp6" }

func isUDP(network string) bool { return network == "udp" || network == "udp4" || network == "udp6" }

// tcpLocal returns the address that a hook binds TCP sockets to if LocalAddr is local
// and the dial's network is network, or any if that is empty. The address is not valid
// if local is no TCP address. ok is false if net refuses local; then net has to do it,
// and no hook may connect the socket before.
func tcpLocal(local net.Addr, network string) (from netip.AddrPort, ok bool) {
	a, _ := local.(*net.TCPAddr)
	if a == nil {
		return from, true
	}
	addr, valid := netip.AddrFromSlice(a.IP)
	if len(a.IP) == 0 {
		addr, valid = netip.IPv4Unspecified(), true
	}
	addr = addr.Unmap()
	wrongFamily := strings.HasSuffix(network, "4") && addr.Is6() ||
		strings.HasSuffix(network, "6") && addr.Is4() && !addr.IsUnspecified()
	if !valid || wrongFamily || a.Port < 0 || a.Port > int(everyPort.High) {
		return from, false
	}
	if addr.Is6() && !addr.IsUnspecified() {
		addr = addr.WithZone(a.Zone)
	}
	return netip.AddrPortFrom(addr, uint16(a.Port)), true
}
