package safedial

import "golang.org/x/sys/unix"

// narrow has the kernel pick the socket's local port from r. It takes Linux 6.3,
// for an MPTCP socket 6.8. From 6.8 on it also makes connect(2) search one port
// after the other instead of one parity first, which is what keeps the cost of
// a dial flat as local ports run out.
func narrow(fd int, r PortRange) error {
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE, int(uint32(r.High)<<16|uint32(r.Low)))
}

// narrowed returns the range that the caller's hook set, each end that it left
// open at its widest.
func narrowed(fd int) PortRange {
	value, err := unix.GetsockoptInt(fd, unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE)
	if err != nil {
		return everyPort
	}
	r := PortRange{Low: uint16(value), High: uint16(uint32(value) >> 16)}
	if r.High == 0 {
		r.High = everyPort.High
	}
	return r
}

// bindAddressOnly has bind(2) with port 0 take no port (Linux 4.2); connect(2)
// then picks one that is free for its 4-tuple. Where the kernel refuses, bind(2)
// picks, as it does for net.Dialer.
func bindAddressOnly(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
}

// resetOnClose has close(2) send a reset instead of going through TIME_WAIT.
// Nothing is left to do where it fails.
func resetOnClose(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 0})
}

// lendPort sets SO_REUSEADDR, and reports whether it was not set before.
func lendPort(fd int) bool {
	on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR)
	if err != nil || on != 0 {
		return false
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) == nil
}

// reclaimPort takes lendPort back.
func reclaimPort(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
}
