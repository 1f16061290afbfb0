package proof

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

// elsewherePort has a server in each scenario.
const elsewherePort = 9000

// A world is a network namespace in which scenarios happen.
type world struct {
	t *testing.T
	environment
	lateBind, oldKernel     bool     // the kernel has IP_BIND_ADDRESS_NO_PORT, and is older than 6.8
	portRange, reserved     *os.File // sysctls, which the environment may hide
	home, elsewhere         *os.File // network namespaces: this one, and one with other ports
	setRange, setReserved   string   // what the sysctls hold
	shift                   int
	sockets                 []bare
	listeners               []bare
	descriptors, goroutines int
}

func newWorld(t *testing.T, e environment) *world {
	t.Helper()
	if !nstest.HasIPv6() {
		t.Skip("the kernel has no IPv6, which half of the scenarios use")
	}
	nstest.Hosts(t, hostsFile)
	runtime.LockOSThread() // environments are those of a thread
	w := &world{t: t, environment: e}
	w.portRange = openFile(t, "/proc/sys/net/ipv4/ip_local_port_range", os.O_WRONLY)
	w.reserved = openFile(t, nstest.ReservedPortsFile, os.O_WRONLY)
	w.home = openFile(t, "/proc/thread-self/ns/net", os.O_RDONLY)
	w.elsewhere = w.newNamespace()
	w.lateBind = !portable && nstest.HasOption(t, 0, unix.IP_BIND_ADDRESS_NO_PORT)
	w.oldKernel = !nstest.HasPortRange(t, unix.IPPROTO_MPTCP)
	w.noOption = w.noOption || portable || !nstest.HasPortRange(t, 0)
	if e.enter != nil {
		e.enter(w)
	}
	return w
}

func openFile(t *testing.T, name string, flag int) *os.File {
	t.Helper()
	f, err := os.OpenFile(name, flag, 0)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EROFS) {
		nstest.Refused(t, err.Error())
	}
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func (w *world) writeRange(low, high uint16) {
	_, err := w.portRange.WriteAt(fmt.Appendf(nil, "%d %d", low, high), 0)
	require.NoError(w.t, err)
}

// build makes the system's part of s. The library then knows the local ports, unless the
// environment keeps them from it.
func (w *world) build(s *scenario) {
	w.t.Helper()
	w.descriptors, w.goroutines = nstest.OpenDescriptors(w.t), runtime.NumGoroutine()
	w.findPorts(s)
	w.listen("all", elsewherePort) // of those that are connected elsewhere
	if s.Server != "" {
		w.listen(s.Server, s.port())
		w.bind(true, s.port())
	}
	for _, u := range s.Taken {
		w.take(s, s.first()+u.Port, u.How)
	}
	w.accept(func(fd bare) { w.sockets = append(w.sockets, fd) })

	var numbers []string
	for _, port := range s.Reserved {
		numbers = append(numbers, strconv.Itoa(s.first()+port))
	}
	reserved := strings.Join(numbers, ",")
	_, err := w.reserved.WriteAt([]byte(reserved+"\n"), 0)
	require.NoError(w.t, err)
	w.writeRange(s.system().Low, s.system().High)
	if w.setRange == s.system().String() && w.setReserved == reserved {
		return
	}
	w.setRange, w.setReserved = s.system().String(), reserved
	if isHidden := w.unknown && w.errno == 0; !isHidden && !w.stale {
		nstest.AwaitPortsRead()
	}
}

// findPorts moves the range of s to ports on which nothing is left, if a dial has left
// a connection in TIME_WAIT.
func (w *world) findPorts(s *scenario) {
	for s.shift = w.shift; ; s.shift = w.shift {
		free := true
		for port := range s.Width + 3 {
			free = free && w.isFree(s.first()+port-1, time.Second)
		}
		if free {
			return
		}
		w.shift = (w.shift + 20) % 9000
	}
}

// take has a socket take the port.
func (w *world) take(s *scenario, port int, how string) {
	w.t.Helper()
	switch how {
	case "listening":
		w.listen("all", port)
		w.listeners = w.listeners[:len(w.listeners)-1] // nobody accepts there
	case "bound", "UDP":
		w.bind(how == "UDP", port)
	default:
		to := uint16(elsewherePort)
		if how == "to the destination" {
			to = uint16(s.port())
		}
		w.writeRange(uint16(port), uint16(port))
		for _, own := range []string{"127.0.0.1", "::1", nstest.OwnAddress} {
			addr := netip.AddrPortFrom(netip.MustParseAddr(own), to)
			fd := w.socket(addr.Addr().Is6(), unix.SOCK_STREAM)
			_ = fd.do(unix.SYS_CONNECT, addr, addr.Addr().Is6()) // no server may be there
		}
	}
}

// listen has a server listen on the port of addresses: all of them, or one.
func (w *world) listen(addresses string, port int) {
	w.t.Helper()
	addr, v6 := netip.IPv6Unspecified(), nstest.HasIPv6()
	if addresses != "all" {
		addr = netip.MustParseAddr(addresses)
		v6 = addr.Is6()
	}
	fd := w.socket(v6, unix.SOCK_STREAM|unix.SOCK_NONBLOCK)
	require.NoError(w.t, fd.do(unix.SYS_BIND, netip.AddrPortFrom(addr, uint16(port)), v6))
	require.NoError(w.t, unix.Listen(int(fd), 1000))
	w.listeners = append(w.listeners, fd)
}

func (w *world) bind(udp bool, port int) {
	w.t.Helper()
	kind := unix.SOCK_STREAM
	if udp {
		kind = unix.SOCK_DGRAM
	}
	v6 := nstest.HasIPv6()
	require.NoError(w.t, w.socket(v6, kind).do(unix.SYS_BIND, anyAddress(port), v6))
}

// accept has the servers accept, and hands what they accept to f.
func (w *world) accept(f func(bare)) {
	for _, l := range w.listeners {
		for {
			fd, _, err := unix.Accept4(int(l), unix.SOCK_CLOEXEC)
			if err != nil {
				break
			}
			f(bare(fd))
		}
	}
}

// reset closes what build has made.
func (w *world) reset() {
	w.accept(bare.reset)
	for _, fd := range w.sockets {
		fd.reset()
	}
	w.sockets, w.listeners = nil, nil
}
