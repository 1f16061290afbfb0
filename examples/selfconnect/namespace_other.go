//go:build !linux

package main

import (
	"errors"
	"io"
)

func inNamespace() bool { return false }

// startInNamespace fails: this system has no network namespaces.
func startInNamespace(_, _ io.Writer) (int, error) { return 0, errors.ErrUnsupported }

func runInNamespace(_, _ io.Writer) int { return statusError }
