package main

import (
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
)

// socketOwners returns the processes that have sockets, by inode, as /proc tells. Of
// several processes that share a socket, it is the first. Processes that end
// meanwhile, or that this one may not look at, are left out.
func socketOwners() (map[uint64]process, error) {
	all, err := procfs.AllProcs()
	if err != nil {
		return nil, err
	}
	owners := make(map[uint64]process)
	for _, p := range all {
		name, err := p.Comm()
		if err != nil {
			continue
		}
		targets, err := p.FileDescriptorTargets()
		if err != nil {
			continue
		}
		for _, target := range targets {
			number, isSocket := strings.CutPrefix(target, "socket:[")
			inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
			if !isSocket || err != nil {
				continue
			}
			if _, known := owners[inode]; !known {
				owners[inode] = process{PID: p.PID, Name: name}
			}
		}
	}
	return owners, nil
}
