package safedial

import "syscall"

// connRefused is every error that a refused connection is known by. Plan 9 has
// texts instead of numbers; this is the one that its TCP writes.
var connRefused = []error{syscall.NewError("connection refused")}

// errAddrNotAvailable never comes: Plan 9 has no such error.
var errAddrNotAvailable = syscall.NewError("address not available")
