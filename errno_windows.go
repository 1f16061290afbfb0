package safedial

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// connRefused is every error that a refused connection is known by: Winsock's
// own and the portable one, which package syscall invents on Windows.
var connRefused = []error{windows.WSAECONNREFUSED, syscall.ECONNREFUSED}

var (
	errAddrNotAvailable error = windows.WSAEADDRNOTAVAIL
	errAddrInUse        error = windows.WSAEADDRINUSE
	errAgain            error = windows.WSAEWOULDBLOCK
)
