//go:build safedial_portable || !linux

package proof

// portable: the library is what macOS, the BSDs and Windows get. Then LocalPorts and
// AvoidPorts fail with errors.ErrUnsupported, net binds LocalAddr and connects from up
// to three sockets of its own, a retry is a dial of all addresses, and NetDialer
// returns net's dialer, which nothing checks.
const portable = true

// socketsPerDial is how many sockets a TCP dial uses before it is a retry.
const socketsPerDial = 3
