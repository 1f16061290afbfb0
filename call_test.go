package safedial

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// TestSerial: a guard may be reused only if no goroutine of net's can be late.
func TestSerial(t *testing.T) {
	const tcp, tcp4, udp = "tcp", "tcp4", "udp"
	for name, test := range map[string]struct {
		call          call
		fallbackDelay time.Duration
		want          bool
	}{
		"an IPv4 address":             {call{network: tcp, address: "127.0.0.1:80"}, 0, true},
		"an IPv6 address":             {call{network: tcp, address: "[::1]:80"}, 0, true},
		"a zone":                      {call{network: tcp, address: "[fe80::1%lo]:80"}, 0, true},
		"0.0.0.0":                     {call{network: tcp, address: "0.0.0.0:80"}, 0, false},
		":: becomes two addresses":    {call{network: tcp, address: "[::]:80"}, 0, false},
		"and so it does with a zone":  {call{network: tcp, address: "[::%lo]:80"}, 0, false},
		"a name":                      {call{network: tcp, address: "localhost:80"}, 0, false},
		"a name that starts as an IP": {call{network: tcp, address: "127.0.0.1.nip.io:80"}, 0, false},
		"a name in brackets":          {call{network: tcp, address: "[localhost]:80"}, 0, false},
		"no host":                     {call{network: tcp, address: ":80"}, 0, false},
		"nothing":                     {call{network: tcp, address: ""}, 0, false},
		"a port with a name":          {call{network: tcp, address: "127.0.0.1:http"}, 0, false},
		"one family":                  {call{network: tcp4, address: "localhost:80"}, 0, true},
		"UDP":                         {call{network: udp, address: "localhost:80"}, 0, true},
		"no fallback":                 {call{network: tcp, address: "localhost:80"}, -1, true},
		"a fallback":                  {call{network: tcp, address: "localhost:80"}, 1, false},
		"DialTCP":                     {call{method: callDialTCP, network: tcp, address: "[::]:80"}, 0, true},
		"DialUDP":                     {call{method: callDialUDP, network: udp, address: "[::]:80"}, 0, true},
	} {
		assert.Equal(t, test.want, test.call.serial(&net.Dialer{FallbackDelay: test.fallbackDelay}), name)
	}
}
