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

// bound is the address that programs bind sockets to instead of the one that the sockets ask
// for. Its port is outside of the local port range.
var bound = netip.MustParseAddrPort("127.0.0.2:50000")

// A bindProgram runs for each bind(2): it gets the address in R6, and leaves its verdict in
// R0.
type bindProgram struct {
	name         string
	instructions asm.Instructions

	// effect reports whether a dial from 127.0.0.1:0 shows what the program does.
	effect func(local netip.AddrPort, err error) bool
}

var bindPrograms = []bindProgram{
	{
		name:         "denies",
		instructions: asm.Instructions{verdict(deny)},
		effect:       func(_ netip.AddrPort, err error) bool { return errors.Is(err, unix.EPERM) },
	},
	{
		name: "rewrites-address",
		instructions: asm.Instructions{
			asm.Mov.Imm32(asm.R1, ip4(bound)),
			asm.StoreMem(asm.R6, userIP4, asm.R1, asm.Word),
			verdict(allow),
		},
		effect: func(local netip.AddrPort, _ error) bool { return local.Addr() == bound.Addr() },
	},
	{
		name: "rewrites-port",
		instructions: asm.Instructions{
			asm.Mov.Imm32(asm.R1, port(bound)),
			asm.StoreMem(asm.R6, userPort, asm.R1, asm.Word),
			verdict(allow),
		},
		effect: func(local netip.AddrPort, _ error) bool { return local.Port() == bound.Port() },
	},
}

// TestBindPrograms shows that a dial without LocalAddr makes no bind(2), and one with
// LocalAddr makes one, as with net.Dialer. A program of the control group counts them, and
// changes them as systemd's SocketBindDeny= does.
func TestBindPrograms(t *testing.T) {
	loopback := net.IPv4(127, 0, 0, 1)
	locals := []struct {
		network string
		local   net.Addr
	}{
		{network: "udp", local: &net.UDPAddr{IP: loopback}},
		{network: "tcp", local: &net.TCPAddr{IP: loopback}},
	}
	servers := []struct {
		name    string
		address netip.AddrPort
	}{
		{name: "port-in-range", address: netip.MustParseAddrPort("127.0.0.1:40050")},
		{name: "port-outside", address: netip.MustParseAddrPort("127.0.0.1:9000")},
	}
	inCgroup(t, func(t *testing.T) {
		nstest.SetLocalPorts(t, 40000, 40099)
		for _, server := range servers {
			require.NoError(t, answerUDP(t, server.address))
			require.NoError(t, answerTCP(t, server.address))
		}
		for _, program := range bindPrograms {
			for _, from := range locals {
				for _, to := range servers {
					t.Run(program.name+"/"+from.network+"/"+to.name, func(t *testing.T) {
						program.testDials(t, from.network, from.local, to.address)
					})
				}
			}
		}
	})
}

// testDials dials the server by each dialer, with and without the local address.
func (p bindProgram) testDials(t *testing.T, network string, local net.Addr, to netip.AddrPort) {
	t.Helper()
	binds := p.count(t)
	for name, d := range dialers(local) {
		from, err := dialFrom(t, d, network, to)
		assert.True(t, p.effect(from, err), "%s with LocalAddr: from %s: %v", name, from, err)
		assert.EqualValues(t, 1, binds(), "%s with LocalAddr: bind(2)", name)
	}
	for name, d := range dialers(nil) {
		for range 10 {
			from, err := dialFrom(t, d, network, to)
			require.NoError(t, err, name)
			assert.Equal(t, to.Addr(), from.Addr(), name)
			assert.NotEqual(t, bound.Port(), from.Port(), name)
		}
		assert.Zero(t, binds(), "%s without LocalAddr: bind(2)", name)
	}
}

// dialFrom dials a server, which must answer, and returns the local address.
func dialFrom(t *testing.T, d dialer, network string, to netip.AddrPort) (netip.AddrPort, error) {
	t.Helper()
	conn, err := d.Dial(network, to.String())
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer nstest.Reset(conn)
	if network == "udp" {
		assert.Equal(t, to.String(), ask(t, conn))
	} else {
		assert.Equal(t, to.String(), read(t, conn))
	}
	return nstest.AddrPort(conn.LocalAddr()), nil
}

// count has the program run until the test ends. The returned function reports how often it
// ran since the last call.
func (p bindProgram) count(t *testing.T) func() uint64 {
	t.Helper()
	count := newMap(t, &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	program := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMapValue(asm.R1, count.FD(), 0),
		asm.Mov.Imm(asm.R2, 1),
		asm.AddAtomic.Mem(asm.R1, asm.R2, asm.DWord, 0),
	}
	program = append(program, p.instructions...)
	attach(t, ebpf.AttachCGroupInet4Bind, append(program, asm.Return()))
	return func() (n uint64) {
		require.NoError(t, count.Lookup(uint32(0), &n))
		require.NoError(t, count.Put(uint32(0), uint64(0)))
		return n
	}
}
