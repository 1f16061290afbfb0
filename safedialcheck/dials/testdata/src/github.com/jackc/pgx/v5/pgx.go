// Package pgx stands for the real one.
package pgx

import "context"

// ConnConfig stands for the real one.
type ConnConfig struct{ DialFunc func() }

// ParseConfig stands for the real one.
func ParseConfig(string) (*ConnConfig, error) { return nil, nil }

// ConnectConfig stands for the real one.
func ConnectConfig(context.Context, *ConnConfig) {}

// Connect stands for the real one.
func Connect(context.Context, string) {}
