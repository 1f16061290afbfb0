package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/safedial/safedial"
)

// limits are the ports that the kernel may choose from.
type limits struct {
	local       safedial.PortRange
	reserved    []safedial.PortRange
	reservedErr error // why reserved is not known
}

func readLimits() (limits, error) {
	local, err := safedial.LocalPortRange()
	if errors.Is(err, errors.ErrUnsupported) {
		return limits{}, errNeedsLinux
	}
	if err != nil {
		return limits{}, err
	}
	reserved, err := safedial.ReservedPorts()
	return limits{local, reserved, err}, nil
}

// mayChoose reports whether the kernel may choose port. If the reserved ports are not
// known, none is taken for reserved.
func (l limits) mayChoose(port uint16) bool { return l.local.Contains(port) && !l.isReserved(port) }

func (l limits) isReserved(port uint16) bool {
	return slices.ContainsFunc(l.reserved, func(r safedial.PortRange) bool { return r.Contains(port) })
}

// A verdict says whether the kernel may choose a port, and whether a server can have it.
type verdict struct {
	Port   uint16 `json:"port"`
	AtRisk bool   `json:"at_risk"`
	Reason string `json:"reason"`
	Bind   string `json:"bind"` // bindOK, or the error of bindTCP
}

const bindOK = "ok"

func (l limits) verdicts(ports []uint16) []verdict {
	verdicts := []verdict{}
	for _, port := range ports {
		bind := bindOK
		if err := bindTCP(port); err != nil {
			bind = err.Error()
		}
		verdicts = append(verdicts, verdict{port, l.mayChoose(port), l.reason(port), bind})
	}
	return verdicts
}

func (l limits) reason(port uint16) string {
	switch {
	case !l.local.Contains(port):
		return fmt.Sprintf("outside of the local port range %s", l.local)
	case l.isReserved(port):
		return fmt.Sprintf("in the local port range %s, but reserved", l.local)
	case l.reservedErr != nil:
		return fmt.Sprintf("in the local port range %s, and not known to be reserved", l.local)
	}
	return fmt.Sprintf("in the local port range %s, so any outgoing connection may have it", l.local)
}

func (v verdict) String() string {
	risk := "at risk"
	if !v.AtRisk {
		risk = "not at risk"
	}
	server := "can listen on it now"
	if v.Bind != bindOK {
		server = "can't listen on it now: " + v.Bind
	}
	return fmt.Sprintf("port %d: %s, %s\n", v.Port, risk, v.Reason) +
		fmt.Sprintf("port %d: a TCP server on all addresses, with SO_REUSEADDR, %s", v.Port, server)
}

// parsePorts reads "40000", "postgresql" and "127.0.0.1:40000".
func parsePorts(args []string) ([]uint16, error) {
	var ports []uint16
	for _, arg := range args {
		name := arg
		if strings.Contains(arg, ":") {
			var err error
			if _, name, err = net.SplitHostPort(arg); err != nil {
				return nil, err
			}
		}
		port, err := net.DefaultResolver.LookupPort(context.Background(), "tcp", name)
		if err != nil {
			return nil, fmt.Errorf("%q is not a port: %w", arg, err)
		}
		if port == 0 {
			return nil, fmt.Errorf("%q is not a port that a server can have", arg)
		}
		if !slices.Contains(ports, uint16(port)) {
			ports = append(ports, uint16(port))
		}
	}
	return ports, nil
}

// merge sorts the ranges and joins those that touch.
func merge(ranges []safedial.PortRange) []safedial.PortRange {
	slices.SortFunc(ranges, func(a, b safedial.PortRange) int { return cmp.Compare(a.Low, b.Low) })
	var merged []safedial.PortRange
	for _, r := range ranges {
		if n := len(merged); n > 0 && int(r.Low) <= int(merged[n-1].High)+1 {
			merged[n-1].High = max(merged[n-1].High, r.High)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// list formats ranges as sysctl ip_local_reserved_ports does.
func list(ranges []safedial.PortRange) string {
	var items []string
	for _, r := range ranges {
		items = append(items, r.String())
	}
	return strings.Join(items, ",")
}
