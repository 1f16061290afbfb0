//go:build !windows && !plan9

package safedial

import "syscall"

// connRefused is every error that a refused connection is known by.
var connRefused = []error{syscall.ECONNREFUSED}

var (
	errAddrNotAvailable error = syscall.EADDRNOTAVAIL
	errAddrInUse        error = syscall.EADDRINUSE
	errAgain            error = syscall.EAGAIN
)
