package dialbench

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
)

// A Batch is what some dials cost.
type Batch struct {
	// Each is the time of each dial in nanoseconds. With more than one goroutine
	// it is the time of all, divided by their number.
	Each []float64

	Mallocs, Bytes float64 // of memory, per dial

	// CPU is the processor time of the dialing process per dial, user and system, in
	// nanoseconds, and Machine that of all processes.
	CPU, Machine float64
	Failed       int // binds that found no port
}

// Time is the time of a dial: the median, which an interrupt does not move.
func (b Batch) Time() float64 { return Quartiles(b.Each).Median }

// Mean is the mean time, which tells of the rare that take long.
func (b Batch) Mean() float64 {
	sum := 0.0
	for _, t := range b.Each {
		sum += t
	}
	return sum / float64(len(b.Each))
}

// A stage is a Scene that is set.
type stage struct {
	Scene
	conns []io.Closer
	held  int // connections of other processes
}

// ownConnections is how many connections a process can hold with 20,000 descriptors,
// a usual limit.
const ownConnections = 19_000

type dialFunc = func() (io.Closer, error)

// by returns the dial to measure.
func (s *stage) by(dialer string) (dialFunc, error) {
	var local net.Addr
	if s.LocalAddr != "" {
		addr, err := net.ResolveTCPAddr("tcp", s.LocalAddr)
		if err != nil {
			return nil, err
		}
		local = addr
	}
	network, address := s.network(), s.Address
	switch dialer {
	case Net:
		d := net.Dialer{LocalAddr: local}
		if s.HTTP {
			return get(d.DialContext, address), nil
		}
		return func() (io.Closer, error) { return d.Dial(network, address) }, nil
	case Safedial:
		d := safedial.Dialer{LocalAddr: local}
		if s.HTTP {
			return get(d.DialContext, address), nil
		}
		return func() (io.Closer, error) { return d.Dial(network, address) }, nil
	case Floor:
		to, err := netip.ParseAddrPort(address)
		return func() (io.Closer, error) { return connectBare(to, asItIs) }, err
	}
	return nil, fmt.Errorf("no dialer %q", dialer)
}

// A bare socket is one that no poller knows.
type bare int

// connectBare dials by the fewest system calls that can, and those of prepare.
func connectBare(to netip.AddrPort, prepare func(fd int) error) (bare, error) {
	family, sa := unix.AF_INET, unix.Sockaddr(nil)
	if to.Addr().Is4() {
		sa = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	} else {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := prepare(fd); err != nil {
		unix.Close(fd)
		return -1, err
	}
	if err := unix.Connect(fd, sa); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("connect", err)
	}
	return bare(fd), nil
}

// Close closes the socket.
func (b bare) Close() error { return unix.Close(int(b)) }

func asItIs(int) error { return nil }

// portByPort has connect(2) try one local port after the other, as of Linux 6.8, where
// it would look through half of the range in vain before it takes the other half.
func portByPort(fd int) error {
	everyPort := uint32(65535)<<16 | 1
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE, int(everyPort))
}

// hangUp closes a connection with a reset, which leaves no TIME_WAIT on its port.
func hangUp(conn io.Closer) {
	switch conn := conn.(type) {
	case *net.TCPConn:
		_ = conn.SetLinger(0)
	case bare:
		_ = unix.SetsockoptLinger(int(conn), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	_ = conn.Close()
}

// open opens connections until there are n. Those above ownConnections are another
// process's.
func (s *stage) open(dialer string, n int) error {
	dial, err := s.by(dialer)
	if err != nil {
		return err
	}
	for len(s.conns) < min(n, ownConnections) {
		conn, err := dial()
		if err != nil {
			return fmt.Errorf("connection %d: %w", len(s.conns), err)
		}
		s.conns = append(s.conns, conn)
	}
	for missing := n - len(s.conns) - s.held; missing > 0; missing = n - len(s.conns) - s.held {
		held, err := startHolding(s.Address, missing)
		if err == nil && held == 0 {
			err = errors.New("no port or no descriptor is left")
		}
		if err != nil {
			return fmt.Errorf("%d connections are missing: %w", missing, err)
		}
		s.held += held
	}
	return nil
}

// once dials and hangs up, and returns the time of the dial.
func (s *stage) once(dial dialFunc) (time.Duration, error) {
	start := time.Now()
	conn, err := dial()
	took := time.Since(start)
	if err == nil {
		hangUp(conn)
	}
	switch {
	case s.Want == 0 && err != nil:
		return 0, err
	case s.Want != 0 && !errors.Is(err, s.Want):
		return 0, fmt.Errorf("%s: %w instead of %w", s.Name, err, s.Want)
	}
	return took, nil
}

func (s *stage) dials(dialer string, n int) (Batch, error) {
	dial, err := s.by(dialer)
	if err != nil {
		return Batch{}, err
	}
	if s.Goroutines > 1 {
		return s.dialsAtOnce(dial, n)
	}
	return measure(n, func(each []float64) error {
		for i := range each {
			took, err := s.once(dial)
			if err != nil {
				return err
			}
			each[i] = float64(took)
		}
		return nil
	})
}

// dialsAtOnce has the goroutines share n dials.
func (s *stage) dialsAtOnce(dial dialFunc, n int) (Batch, error) {
	return measure(n, func(each []float64) error {
		errs := make([]error, s.Goroutines)
		var group sync.WaitGroup
		start := time.Now()
		for g := range s.Goroutines {
			group.Go(func() {
				for i := g; i < n && errs[g] == nil; i += s.Goroutines {
					_, errs[g] = s.once(dial)
				}
			})
		}
		group.Wait()
		took := float64(time.Since(start)) / float64(n)
		for i := range each {
			each[i] = took
		}
		return errors.Join(errs...)
	})
}

// measure has f fill in the times of n dials, and counts the memory of them.
func measure(n int, f func(each []float64) error) (Batch, error) {
	each := make([]float64, n)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, machine := processTime(), machineTime()
	err := f(each)
	cpu, machine = processTime()-cpu, machineTime()-machine
	runtime.ReadMemStats(&after)
	return Batch{
		Each:    each,
		Mallocs: float64(after.Mallocs-before.Mallocs) / float64(n),
		Bytes:   float64(after.TotalAlloc-before.TotalAlloc) / float64(n),
		CPU:     cpu / float64(n),
		Machine: machine / float64(n),
	}, err
}

// binds binds port 0 of the unspecified address n times, by bare system calls.
func binds(n int) (Batch, error) {
	return occupy(n, func() (io.Closer, error) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, os.NewSyscallError("socket", err)
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{}); err != nil {
			unix.Close(fd)
			return nil, os.NewSyscallError("bind", err)
		}
		return bare(fd), nil
	})
}

// listens listens on ":0" n times.
func listens(n int) (Batch, error) {
	return occupy(n, func() (io.Closer, error) { return net.Listen("tcp", ":0") })
}

// occupy measures something that takes a port, and counts how often none is left.
func occupy(n int, take func() (io.Closer, error)) (Batch, error) {
	failed := 0
	b, err := measure(n, func(each []float64) error {
		for i := range each {
			start := time.Now()
			taken, err := take()
			each[i] = float64(time.Since(start))
			switch {
			case errors.Is(err, unix.EADDRINUSE):
				failed++
			case err != nil:
				return err
			default:
				taken.Close()
			}
		}
		return nil
	})
	b.Failed = failed
	return b, err
}
