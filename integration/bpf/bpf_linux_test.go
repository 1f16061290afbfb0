package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/stretchr/testify/require"

	"github.com/safedial/safedial/internal/nstest"
)

// The fields of struct bpf_sock_addr, in linux/bpf.h.
const (
	userIP4  = 4
	userPort = 24
)

// A balancer is a load balancer below connect(2), as those of Kubernetes: a BPF program
// replaces the address of a service by that of a backend, each in turn.
type balancer struct {
	connects *ebpf.Map // how often each socket, by its cookie, was connected
}

// balance puts the test's control group behind a balancer, until the test ends.
func balance(t *testing.T, service netip.AddrPort, backends ...netip.AddrPort) balancer {
	t.Helper()
	turn := newMap(t, &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	b := balancer{newMap(t, &ebpf.MapSpec{
		Type: ebpf.Hash, KeySize: 8, ValueSize: 8, MaxEntries: 1 << 16,
	})}
	program := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R1, asm.R6, userIP4, asm.Word),
		asm.JNE.Imm32(asm.R1, ip4(service), "allow"),
		asm.LoadMem(asm.R1, asm.R6, userPort, asm.Word),
		asm.JNE.Imm32(asm.R1, port(service), "allow"),
	}
	program = append(program, b.count()...)
	program = append(program,
		asm.LoadMapValue(asm.R1, turn.FD(), 0).WithSymbol("choose"),
		asm.LoadMem(asm.R7, asm.R1, 0, asm.DWord),
		asm.Mov.Imm(asm.R2, 1),
		asm.AddAtomic.Mem(asm.R1, asm.R2, asm.DWord, 0),
		asm.Mod.Imm(asm.R7, int32(len(backends))),
	)
	label := func(i int) string {
		if i == len(backends) {
			return "allow"
		}
		return fmt.Sprintf("backend %d", i)
	}
	for i, backend := range backends {
		program = append(program,
			asm.JNE.Imm(asm.R7, int32(i), label(i+1)).WithSymbol(label(i)),
			asm.Mov.Imm32(asm.R1, ip4(backend)),
			asm.StoreMem(asm.R6, userIP4, asm.R1, asm.Word),
			asm.Mov.Imm32(asm.R1, port(backend)),
			asm.StoreMem(asm.R6, userPort, asm.R1, asm.Word),
			asm.Ja.Label("allow"),
		)
	}
	program = append(program, verdict(allow).WithSymbol("allow"), asm.Return())
	attach(t, ebpf.AttachCGroupInet4Connect, program)
	return b
}

// count counts a connect(2) of the socket, and goes on at "choose".
func (b balancer) count() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.FnGetSocketCookie.Call(),
		asm.StoreMem(asm.RFP, -8, asm.R0, asm.DWord),
		asm.Mov.Imm(asm.R0, 1),
		asm.StoreMem(asm.RFP, -16, asm.R0, asm.DWord),
		asm.LoadMapPtr(asm.R1, b.connects.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -8),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "first"),
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, 0),
		asm.Ja.Label("choose"),

		asm.LoadMapPtr(asm.R1, b.connects.FD()).WithSymbol("first"),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -8),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, -16),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnMapUpdateElem.Call(),
	}
}

// sockets returns how often each socket was connected to the service since the last call.
func (b balancer) sockets(t *testing.T) (connects []uint64) {
	t.Helper()
	var cookies []uint64
	var cookie, n uint64
	entries := b.connects.Iterate()
	for entries.Next(&cookie, &n) {
		cookies, connects = append(cookies, cookie), append(connects, n)
	}
	require.NoError(t, entries.Err())
	for _, cookie := range cookies {
		require.NoError(t, b.connects.Delete(cookie))
	}
	return connects
}

// The verdicts of a program.
const (
	deny  = 0
	allow = 1
)

func verdict(v int32) asm.Instruction { return asm.Mov.Imm(asm.R0, v) }

// ip4 and port return what a program finds in the fields of struct bpf_sock_addr.
func ip4(a netip.AddrPort) int32 {
	ip := a.Addr().As4()
	return int32(binary.NativeEndian.Uint32(ip[:]))
}

func port(a netip.AddrPort) int32 {
	return int32(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, a.Port())))
}

// attach has the program run for the test's control group, until the test ends.
func attach(t *testing.T, to ebpf.AttachType, instructions asm.Instructions) {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSockAddr, AttachType: to, Instructions: instructions, License: "MIT",
	})
	orRefused(t, err)
	t.Cleanup(func() { _ = program.Close() })
	attached, err := link.AttachCgroup(link.CgroupOptions{
		Path: ownCgroup, Attach: to, Program: program,
	})
	orRefused(t, err)
	t.Cleanup(func() { _ = attached.Close() })
}

func newMap(t *testing.T, spec *ebpf.MapSpec) *ebpf.Map {
	t.Helper()
	m, err := ebpf.NewMap(spec)
	orRefused(t, err)
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// orRefused requires that the kernel took the program, or skips the test if the platform
// refuses all programs. An error of the verifier is a mistake of the test.
func orRefused(t *testing.T, err error) {
	t.Helper()
	var verifier *ebpf.VerifierError
	if errors.As(err, &verifier) {
		t.Fatalf("%+v", verifier)
	}
	if errors.Is(err, os.ErrPermission) || errors.Is(err, errors.ErrUnsupported) {
		nstest.Refused(t, fmt.Sprintf("no BPF program for the test: %v", err))
	}
	require.NoError(t, err)
}
