package nstest

import (
	"testing"
	"time"

	"github.com/safedial/safedial/internal/netns"
)

// ReservedPortsFile has the ports that the kernel must not choose.
const ReservedPortsFile = "/proc/sys/net/ipv4/ip_local_reserved_ports"

// portsAreCachedFor is how long the library may use what it has read of the local
// ports, a tenth of a second, and a little more. Nothing tells a test when it reads
// them anew.
const portsAreCachedFor = 115 * time.Millisecond

// cachedPorts is what the library may have read last: a range and the reserved ports.
var cachedPorts struct {
	low, high uint16
	reserved  string
}

// SetLocalPorts sets the namespace's local port range, and waits until the library
// reads it. Without a change it does not wait.
func SetLocalPorts(t *testing.T, low, high uint16) {
	t.Helper()
	WriteLocalPorts(t, low, high)
	if cachedPorts.low == low && cachedPorts.high == high {
		return
	}
	cachedPorts.low, cachedPorts.high = low, high
	AwaitPortsRead()
}

// WriteLocalPorts sets the namespace's local port range, for sockets that are not the
// library's. Until SetLocalPorts is called, the library may use the range before.
func WriteLocalPorts(t *testing.T, low, high uint16) {
	t.Helper()
	orRefused(t, netns.SetLocalPorts(low, high))
}

// SetReservedPorts sets the ports that the kernel must not choose, such as
// "40000,40002-40004", and waits as SetLocalPorts does.
func SetReservedPorts(t *testing.T, ports string) {
	t.Helper()
	Sysctl(t, ReservedPortsFile, ports+"\n")
	if cachedPorts.reserved != ports {
		cachedPorts.reserved = ports
		AwaitPortsRead()
	}
}

// AwaitPortsRead waits until the library reads the local ports anew.
func AwaitPortsRead() { time.Sleep(portsAreCachedFor) }
