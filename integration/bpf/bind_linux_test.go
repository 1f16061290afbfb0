package bpf

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/safedial/safedial/internal/nstest"
)

// bound is an address that a program binds sockets to instead of what they ask for.
// Its port is not one of the local port range.
var bound = netip.MustParseAddrPort("127.0.0.2:50000")

// A bindProgram runs for each bind(2): it gets the address in R6, and leaves its
// answer in R0.
type bindProgram struct {
	asm.Instructions
	effect func(local netip.AddrPort, err error) bool // on a dial from 127.0.0.1:0
}

var bindPrograms = map[string]bindProgram{
	"denies": {
		asm.Instructions{answer(deny)},
		func(_ netip.AddrPort, err error) bool { return errors.Is(err, unix.EPERM) },
	},
	"rewrites the address": {
		asm.Instructions{asm.Mov.Imm32(asm.R1, ip4(bound)), asm.StoreMem(asm.R6, userIP4, asm.R1, asm.Word), answer(allow)},
		func(local netip.AddrPort, _ error) bool { return local.Addr() == bound.Addr() },
	},
	"rewrites the port": {
		asm.Instructions{asm.Mov.Imm32(asm.R1, port(bound)), asm.StoreMem(asm.R6, userPort, asm.R1, asm.Word), answer(allow)},
		func(local netip.AddrPort, _ error) bool { return local.Port() == bound.Port() },
	},
}

// TestBindPrograms has a program of the control group run for each bind(2), as
// systemd's SocketBindDeny= does. A dial without LocalAddr makes none, and one with
// LocalAddr makes one, as with net.Dialer.
func TestBindPrograms(t *testing.T) {
	inCgroup(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, 40000, 40099)
		// One port is in the local port range, one is not.
		servers := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:40050"), netip.MustParseAddrPort("127.0.0.1:9000")}
		for _, server := range servers {
			answerUDP(t, server)
			l, err := net.Listen("tcp4", server.String())
			require.NoError(t, err)
			answerTCP(t, l)
		}
		for name, program := range bindPrograms {
			for network, local := range map[string]net.Addr{
				"udp": &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)},
				"tcp": &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)},
			} {
				for _, server := range servers {
					t.Run(name+", "+network+" "+server.String(), func(t *testing.T) {
						binds := program.count(t)
						for name, d := range dialers(local) {
							got, err := dialFrom(t, d, network, server)
							assert.True(t, program.effect(got, err), "%s with LocalAddr: from %s: %v", name, got, err)
							assert.EqualValues(t, 1, binds(), "%s with LocalAddr: bind(2)", name)
						}
						for name, d := range dialers(nil) {
							dialUnbound(t, name, d, network, server)
							assert.Zero(t, binds(), "%s without LocalAddr: bind(2)", name)
						}
					})
				}
			}
		}
	})
}

// dialUnbound dials a server a few times, each time from an address and a port that
// no program has changed.
func dialUnbound(t *testing.T, name string, d dialer, network string, server netip.AddrPort) {
	t.Helper()
	for range 10 {
		local, err := dialFrom(t, d, network, server)
		require.NoError(t, err, name)
		assert.Equal(t, server.Addr().String(), local.Addr().String(), name)
		assert.NotEqual(t, bound.Port(), local.Port(), name)
	}
}

// dialFrom dials a server, and returns the local address. The server must answer.
func dialFrom(t *testing.T, d dialer, network string, server netip.AddrPort) (local netip.AddrPort, err error) {
	t.Helper()
	conn, err := d.Dial(network, server.String())
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer conn.Close()
	if network == "udp" {
		assert.Equal(t, server.String(), ask(t, conn))
	} else {
		assert.Equal(t, server.String(), read(t, conn))
		reset(t, conn)
	}
	return netip.MustParseAddrPort(conn.LocalAddr().String()), nil
}

// count has the program run until the test ends. The returned function tells how
// often it ran since the last call.
func (p bindProgram) count(t *testing.T) func() uint64 {
	t.Helper()
	count := newMap(t, &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	program := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMapValue(asm.R1, count.FD(), 0),
		asm.Mov.Imm(asm.R2, 1),
		asm.AddAtomic.Mem(asm.R1, asm.R2, asm.DWord, 0),
	}
	program = append(program, p.Instructions...)
	attach(t, ebpf.AttachCGroupInet4Bind, append(program, asm.Return()))
	return func() (n uint64) {
		require.NoError(t, count.Lookup(uint32(0), &n))
		require.NoError(t, count.Put(uint32(0), uint64(0)))
		return n
	}
}
