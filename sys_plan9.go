package safedial

import "syscall"

// connRefused is every error that a refused connection is known by. Plan 9 has
// texts instead of numbers; this is the one that its TCP writes.
var connRefused = []error{syscall.NewError("connection refused")}

// Plan 9 has none of these errors; they never come.
var (
	errAddrNotAvailable = syscall.NewError("address not available")
	errAddrInUse        = syscall.NewError("address in use")
	errAgain            = syscall.NewError("try again")
)
