package proof

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// A control is what the caller's hook does to a socket.
type control struct {
	do      func(hooked) error
	fails   bool   // the dial fails with the hook's error
	special bool   // not to be done to a bare socket
	keeps   string // an option that the connection has
}

// A hooked socket is one that the caller's hook is called with.
type hooked struct {
	w       *world
	s       *scenario
	network string
	fd      int
}

var controls = map[string]control{
	"does nothing":             {do: failing(nil)},
	"sets SO_REUSEADDR":        {do: setting(unix.SO_REUSEADDR, 1), keeps: "SO_REUSEADDR 1 "},
	"sets SO_MARK":             {do: setting(unix.SO_MARK, 7), keeps: "option 36: 7 "},
	"sets SO_RCVBUF":           {do: setting(unix.SO_RCVBUF, 4096), keeps: "option 8: 8192 "},
	"sets SO_LINGER":           {do: setLingering, keeps: "SO_LINGER 1 "},
	"sets IP_LOCAL_PORT_RANGE": {do: limitPorts},
	"binds to a device":        {do: bindToDevice, keeps: "option 62: 1 "},
	"binds port 9999":          {do: func(h hooked) error { return h.bind(9999) }},
	"binds port dialed":        {do: func(h hooked) error { return h.bind(h.s.port()) }},
	"binds an address":         {do: bindAddress},
	"locks a filter":           {do: func(h hooked) error { return lockFilter(h.fd) }},
	"dials":                    {do: dialAgain, special: true},
	"visits a namespace":       {do: visitNamespace, special: true},
	"panics":                   {do: func(hooked) error { panic("hook") }, special: true, fails: true},
	"fails":                    {do: failing(errors.New("refused by the caller's hook")), fails: true},
	"fails without port":       {do: failing(os.NewSyscallError("connect", unix.EADDRNOTAVAIL)), fails: true},
	"fails with EAGAIN":        {do: failing(os.NewSyscallError("connect", unix.EAGAIN)), fails: true},
	"fails with a link":        {do: failing(os.NewSyscallError("connect", errPool)), fails: true},
	"fails in bind":            {do: failing(os.NewSyscallError("bind", unix.EADDRINUSE)), fails: true},
	"fails as itself":          {do: failing(fmt.Errorf("hook: %w", safedial.ErrSelfConnect)), fails: true},
}

var errPool = fmt.Errorf("pool: %w", unix.EADDRNOTAVAIL)

func failing(err error) func(hooked) error {
	return func(hooked) error { return err }
}

func setting(option, value int) func(hooked) error {
	return func(h hooked) error { return unix.SetsockoptInt(h.fd, unix.SOL_SOCKET, option, value) }
}

func setLingering(h hooked) error {
	return unix.SetsockoptLinger(h.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 5})
}

func limitPorts(h hooked) error {
	r := h.s.portRange(h.s.ownRange())
	return nstest.LimitPorts(h.fd, r.Low, r.High)
}

func bindToDevice(h hooked) error { return unix.BindToDevice(h.fd, "lo") }

// bindAddress binds the socket to an address, and leaves the port to connect(2). It fails
// if it cannot, or the socket would have a port that the caller has chosen.
func bindAddress(h hooked) error {
	if err := unix.SetsockoptInt(h.fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return err
	}
	return h.bind(0)
}

func (h hooked) bind(port int) error {
	return os.NewSyscallError("bind", nstest.BindTo(h.fd, "tcp"+h.network[3:], "127.0.0.1", uint16(port)))
}

// dialAgain dials a server, and a port without one.
func dialAgain(h hooked) error {
	for _, port := range []int{elsewherePort, 9} {
		d := safedial.Dialer{MaxRetries: -1}
		conn, err := d.Dial(h.s.network()[:3], fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			h.w.accept(bare.reset)
			nstest.Reset(conn)
		}
	}
	return nil
}

func visitNamespace(h hooked) error {
	h.w.visit(func() {})
	return nil
}
