package proof

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial"
	"github.com/safedial/safedial/internal/nstest"
)

// TestLeavesNothing dials in all ways to fail, and counts what is left.
func TestLeavesNothing(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.Serve(t, "tcp", "127.0.0.1:40000")
		nstest.FullBacklog(t, 9000)
		nstest.SetLocalPorts(t, 40001, 40002)
		dials := map[string]func() error{
			"accepted": func() error {
				conn, err := safedial.Dial("tcp", "127.0.0.1:40000")
				if err == nil {
					nstest.Reset(conn)
				}
				return err
			},
			"refused": func() error { _, err := safedial.Dial("tcp", "127.0.0.1:9"); return err },
			"self":    func() error { _, err := safedial.Dial("tcp", "127.0.0.1:40001"); return err },
			"self by force": func() error {
				_, err := safedial.DialTCP("tcp", &net.TCPAddr{Port: 40001}, &net.TCPAddr{Port: 40001})
				return err
			},
			"by name": func() error { _, err := safedial.Dial("tcp", "localhost:40001"); return err },
			"silent": func() error {
				_, err := safedial.DialTimeout("tcp", "127.0.0.1:9000", 10*time.Millisecond)
				return err
			},
			"canceled": func() error {
				ctx, cancel := context.WithCancel(context.Background())
				time.AfterFunc(5*time.Millisecond, cancel)
				_, err := safedial.DialContext(ctx, "tcp", "127.0.0.1:9000")
				return err
			},
			"hook refuses": func() error {
				d := safedial.Dialer{Control: func(string, string, syscall.RawConn) error { return errors.New("no") }}
				_, err := d.Dial("tcp", "127.0.0.1:40000")
				return err
			},
			"foreign": func() error {
				d := safedial.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("192.0.2.1")}}
				_, err := d.Dial("tcp", "127.0.0.1:40000")
				return err
			},
		}
		for _, dial := range dials { // what the first dial of a kind opens for good
			_ = dial()
		}
		descriptors, goroutines := nstest.OpenDescriptors(t), runtime.NumGoroutine()
		var group sync.WaitGroup
		for name, dial := range dials {
			group.Go(func() {
				for range 20 {
					if err := dial(); name != "accepted" {
						assert.Error(t, err, name)
					}
				}
			})
		}
		group.Wait()
		nstest.AssertNothingLeft(t, descriptors, goroutines)
	})
}

// TestUnverifiedIsNotReturned: where the kernel does not tell the ends of a
// socket, the dial fails, for the socket may be connected to itself.
func TestUnverifiedIsNotReturned(t *testing.T) {
	nstest.Run(t, func(t *testing.T) {
		nstest.Serve(t, "tcp", "127.0.0.1:40000")
		nstest.FailSyscall(t, unix.SYS_GETSOCKNAME, unix.EPERM)
		for _, local := range []net.Addr{nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}} {
			d := safedial.Dialer{LocalAddr: local, OnRetry: func(_ context.Context, r safedial.Retry) { t.Errorf("from %v: retried: %v", local, r.Err) }}
			conn, err := d.Dial("tcp", "127.0.0.1:40000")
			assert.Nil(t, conn, "from %v", local)
			assert.ErrorIs(t, err, unix.EPERM, "from %v", local)
			var op *net.OpError
			assert.ErrorAs(t, err, &op, "from %v", local)
		}
	})
}
