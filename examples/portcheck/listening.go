package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// listening returns the TCP ports that this machine listens on, in ascending
// order, as /proc tells for the network namespace of this process.
func listening() ([]uint16, error) {
	var ports []uint16
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) && file == "/proc/net/tcp6" {
			continue // no IPv6
		}
		if err != nil {
			return nil, err
		}
		found, err := parseListening(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		ports = append(ports, found...)
	}
	slices.Sort(ports)
	return slices.Compact(ports), nil
}

// parseListening reads the sockets of a /proc/net/tcp that are in state LISTEN.
func parseListening(text string) ([]uint16, error) {
	const listen = "0A"
	var ports []uint16
	_, sockets, _ := strings.Cut(text, "\n") // after the headings
	for line := range strings.Lines(sockets) {
		fields := strings.Fields(line)
		if len(fields) < 4 {
			return nil, fmt.Errorf("%q is no socket", strings.TrimSpace(line))
		}
		_, port, _ := strings.Cut(fields[1], ":")
		raw, err := hex.DecodeString(port)
		if err != nil || len(raw) != 2 {
			return nil, fmt.Errorf("%q has no port", fields[1])
		}
		if fields[3] == listen {
			ports = append(ports, uint16(raw[0])<<8|uint16(raw[1]))
		}
	}
	return ports, nil
}
