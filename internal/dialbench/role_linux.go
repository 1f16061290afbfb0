package dialbench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/netns"
)

// roleEnv names, in the re-executed program, what it is there for.
const roleEnv = "SAFEDIAL_BENCH_ROLE"

const (
	dialRole  = "dial"
	serveRole = "serve"
	httpRole  = "http"
	holdRole  = "hold"
)

// Main does not return in a process that this package has started. A program that
// measures calls it first.
func Main() {
	var err error
	role := os.Getenv(roleEnv)
	switch role {
	case "":
		return
	case dialRole:
		err = answer(os.Stdin, os.Stdout)
	case serveRole, httpRole:
		err = serveInherited(role)
	case holdRole:
		err = hold(os.Args[1], os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A request is what a rig has its process do, and a reply what came of it.
type request struct {
	Op     string // "set", "open", "dial", "bind" or "listen"
	Scene  Scene  // to set
	Dialer string // that opens or dials
	N      int
}

type reply struct {
	Err string
	Batch
}

// answer does what the requests say, in turn.
func answer(requests io.Reader, replies io.Writer) error {
	in, out := json.NewDecoder(requests), json.NewEncoder(replies)
	var s *stage
	for {
		var q request
		if err := in.Decode(&q); err != nil {
			return nil // the rig is closed
		}
		var r reply
		var err error
		switch q.Op {
		case "set":
			s, err = set(q.Scene)
		case "open":
			err = s.open(q.Dialer, q.N)
		case "dial":
			r.Batch, err = s.dials(q.Dialer, q.N)
		case "bind":
			r.Batch, err = binds(q.N)
		case "listen":
			r.Batch, err = listens(q.N)
		}
		if err != nil {
			r.Err = err.Error()
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
}

// set sets the scene.
func set(scene Scene) (*stage, error) {
	raiseDescriptorLimit()
	if err := netns.RaiseLoopback(); err != nil {
		return nil, err
	}
	if err := netns.SetLocalPorts(firstPort, lastPort); err != nil {
		return nil, err
	}
	hosts := "127.0.0.1 localhost\n"
	if scene.TwoAddresses {
		hosts = "::1 localhost\n" + hosts
	}
	if err := netns.Cover("/etc/hosts", hosts); err != nil {
		return nil, err
	}
	if scene.Want != unix.ECONNREFUSED && scene.network() != "udp" {
		if err := scene.serve(); err != nil {
			return nil, err
		}
	}
	if scene.Exhausted {
		if err := exhaust(scene.Address); err != nil {
			return nil, err
		}
	}
	return &stage{Scene: scene}, nil
}

// serve listens. In this process, what is accepted is closed at once, so that
// descriptors suffice for as many connections as there are ports. A process of its
// own closes a connection when the client has.
func (s Scene) serve() (err error) {
	var l net.Listener
	address := s.Address
	if s.TwoAddresses {
		address = ":9000"
	}
	listen := func() error {
		l, err = net.Listen(s.network(), address)
		return err
	}
	if s.Away {
		err = netns.Elsewhere(here, there, listen)
	} else {
		err = listen()
	}
	if err != nil {
		return err
	}
	if !s.Apart {
		go hangUpOnAll(l)
		return nil
	}
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	role := serveRole
	if s.HTTP {
		role = httpRole
	}
	cmd := again(role)
	cmd.ExtraFiles = []*os.File{file}
	if err := cmd.Start(); err != nil {
		return err
	}
	return errors.Join(l.Close(), file.Close())
}

func hangUpOnAll(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		conn.Close()
	}
}

// serveInherited serves the listener that the process has inherited.
func serveInherited(role string) error {
	raiseDescriptorLimit()
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	if role == httpRole {
		return http.Serve(
			l,
			http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }),
		)
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(io.Discard, conn)
			conn.Close()
		}()
	}
}

// again returns a command that runs this program in a role, and that ends with
// this process.
func again(role string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return cmd
}

// exhaust has every port to the address taken.
func exhaust(address string) error {
	for range 64 {
		if held, err := startHolding(address, Ports); err != nil || held == 0 {
			return err
		}
	}
	return errors.New("too few descriptors to take every port")
}

// startHolding has another process hold up to n connections to the address, and
// returns how many it has made.
func startHolding(address string, n int) (held int, err error) {
	cmd := again(holdRole, address, strconv.Itoa(n))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	if _, err := fmt.Fscanln(out, &held); err != nil {
		return 0, fmt.Errorf("holding ports: %w", err)
	}
	return held, nil
}

// hold connects to the address until it has the connections, or no port or no
// descriptor is left, says how many it has, and holds them until it is killed.
func hold(address, connections string) error {
	raiseDescriptorLimit()
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	most, err := strconv.Atoi(connections)
	if err != nil {
		return err
	}
	held := 0
	for ; held < most; held++ {
		if _, err := connectBare(to, portByPort); errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EMFILE) {
			break
		} else if err != nil {
			return err
		}
	}
	fmt.Println(held)
	return unix.Pause()
}

// raiseDescriptorLimit does what it can.
func raiseDescriptorLimit() {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	}
}
