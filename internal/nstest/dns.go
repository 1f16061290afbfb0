package nstest

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A Zone is what a DNS server knows; it denies other names.
type Zone map[string][]netip.Addr

// Resolver starts a DNS server for the zone (RFC 1035) on loopback, until the
// test ends, and returns a resolver that asks it and nobody else.
func (z Zone) Resolver(t *testing.T) *net.Resolver {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { packets.Close() })
	go func() {
		buffer := make([]byte, 512)
		for {
			n, from, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			if answer := z.answer(buffer[:n]); answer != nil {
				_, _ = packets.WriteTo(answer, from)
			}
		}
	}()
	var d net.Dialer
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, "udp", packets.LocalAddr().String())
	}}
}

// answer answers a query of one question.
func (z Zone) answer(query []byte) []byte {
	const header, a, aaaa, nameError = 12, 1, 28, 3
	var labels []string
	end := header
	for end < len(query) && query[end] != 0 {
		next := end + 1 + int(query[end])
		if next >= len(query) {
			return nil
		}
		labels = append(labels, string(query[end+1:next]))
		end = next
	}
	end += 5 // the root, the type and the class
	if end > len(query) {
		return nil
	}
	kind := binary.BigEndian.Uint16(query[end-4:])
	addrs, known := z[strings.Join(labels, ".")]

	answer := append([]byte(nil), query[:end]...)
	flags, count := uint16(0x8180), uint16(0)
	if !known {
		flags |= nameError
	}
	for _, addr := range addrs {
		if addr.Is4() != (kind == a) || addr.Is6() != (kind == aaaa) {
			continue
		}
		raw := addr.AsSlice()
		answer = append(answer, 0xc0, header) // the question's name
		answer = binary.BigEndian.AppendUint16(answer, kind)
		answer = binary.BigEndian.AppendUint16(answer, 1)  // IN
		answer = binary.BigEndian.AppendUint32(answer, 60) // seconds
		answer = binary.BigEndian.AppendUint16(answer, uint16(len(raw)))
		answer = append(answer, raw...)
		count++
	}
	binary.BigEndian.PutUint16(answer[2:], flags)
	binary.BigEndian.PutUint16(answer[4:], 1)
	binary.BigEndian.PutUint16(answer[6:], count)
	binary.BigEndian.PutUint32(answer[8:], 0)
	return answer
}
