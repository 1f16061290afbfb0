// Package grpc stands for the real one.
package grpc

// A DialOption is an option.
type DialOption any

// NewClient stands for the real one.
func NewClient(string, ...DialOption) {}

// WithContextDialer stands for the real one.
func WithContextDialer(func()) DialOption { return nil }
