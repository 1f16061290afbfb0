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
	isolated(t, func(t *testing.T) {
		nstest.Serve(t, "tcp", "127.0.0.1:40000")
		nstest.FullBacklog(t, 9000)
		setLocalPorts(t, 40001, 40002)
		rows := map[string]struct {
			address string
			d       safedial.Dialer
		}{
			"accepted":      {"127.0.0.1:40000", safedial.Dialer{}},
			"refused":       {"127.0.0.1:9", safedial.Dialer{}},
			"self":          {"127.0.0.1:40001", safedial.Dialer{}},
			"self by force": {"127.0.0.1:40001", safedial.Dialer{LocalAddr: tcp("", 40001)}},
			"by name":       {"localhost:40001", safedial.Dialer{}},
			"silent":        {"127.0.0.1:9000", safedial.Dialer{Timeout: 10 * time.Millisecond}},
			"canceled":      {"127.0.0.1:9000", safedial.Dialer{}},
			"hook refuses": {
				"127.0.0.1:40000",
				safedial.Dialer{Control: func(string, string, syscall.RawConn) error { return errors.New("no") }},
			},
			"foreign": {"127.0.0.1:40000", safedial.Dialer{LocalAddr: tcp("192.0.2.1", 0)}},
		}
		dial := func(name string) error {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if name == "canceled" {
				time.AfterFunc(5*time.Millisecond, cancel)
			}
			row := rows[name]
			conn, err := row.d.DialContext(ctx, "tcp", row.address)
			if err == nil {
				nstest.Reset(conn)
			}
			return err
		}
		for name := range rows { // what the first dial of a kind opens for good
			_ = dial(name)
		}
		descriptors, goroutines := nstest.OpenDescriptors(t), runtime.NumGoroutine()
		var group sync.WaitGroup
		for name := range rows {
			group.Go(func() {
				for range 20 {
					if err := dial(name); name != "accepted" {
						assert.Error(t, err, name)
					}
				}
			})
		}
		group.Wait()
		nstest.AssertNothingLeft(t, descriptors, goroutines)
	})
}

// TestUnverifiedIsNotReturned: if the kernel does not report the ends of a socket, the
// dial fails, because the socket may be connected to itself.
func TestUnverifiedIsNotReturned(t *testing.T) {
	isolated(t, func(t *testing.T) {
		nstest.Serve(t, "tcp", "127.0.0.1:40000")
		nstest.FailSyscall(t, unix.SYS_GETSOCKNAME, unix.EPERM)
		for _, local := range []net.Addr{nil, tcp("127.0.0.1", 0)} {
			for kind, dial := range dialsOf(&safedial.Dialer{LocalAddr: local, OnRetry: notRetried(t)}) {
				conn, err := dial("tcp", "127.0.0.1:40000")
				assert.Nil(t, conn, "%s from %v", kind, local)
				assert.ErrorIs(t, err, unix.EPERM, "%s from %v", kind, local)
				nstest.OpError(t, err)
			}
		}
	})
}
