// Package redis stands for the real one.
package redis

// Options stand for the real ones.
type Options struct {
	Dialer    func()
	TLSConfig *struct{}
}
