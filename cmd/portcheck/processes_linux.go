package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
)

// socketOwners returns the processes that have sockets, by inode, as /proc tells.
// Processes that end meanwhile, or that this one may not look at, are left out.
func socketOwners() (map[uint64][]process, error) {
	all, err := procfs.AllProcs()
	if err != nil {
		return nil, err
	}
	owners := make(map[uint64][]process)
	for _, p := range all {
		name, err := p.Comm()
		if err != nil {
			continue
		}
		targets, err := p.FileDescriptorTargets()
		if err != nil {
			continue
		}
		owner := process{PID: p.PID, Name: name}
		for _, target := range targets {
			number, isSocket := strings.CutPrefix(target, "socket:[")
			inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
			if isSocket && err == nil && !slices.Contains(owners[inode], owner) {
				owners[inode] = append(owners[inode], owner)
			}
		}
	}
	return owners, nil
}
