// Package redis stands for the real one.
package redis

import "crypto/tls"

// Options stand for the real ones.
type Options struct {
	Dialer    func()
	TLSConfig *tls.Config
}

// ParseURL stands for the real one.
func ParseURL(string) (*Options, error) { return nil, nil }

// NewClient stands for the real one.
func NewClient(*Options) {}
