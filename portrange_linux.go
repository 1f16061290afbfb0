package safedial

import (
	"fmt"
	"io"
	"os"
	"strings"
)

const (
	localPortRangeFile = "/proc/sys/net/ipv4/ip_local_port_range"
	reservedPortsFile  = "/proc/sys/net/ipv4/ip_local_reserved_ports"
)

// defaultPortRange stands in for a local port range that cannot be read: it is the
// default of ip_local_port_range.
var defaultPortRange = PortRange{Low: 32768, High: 60999}

func localPortRange() (PortRange, error) {
	text, err := os.ReadFile(localPortRangeFile)
	if err != nil {
		return PortRange{}, err
	}
	return parseLocalPortRange(string(text))
}

func reservedPorts() ([]PortRange, error) {
	text, err := readSysctl(reservedPortsFile)
	if err != nil {
		return nil, err
	}
	return parseReservedPorts(string(text))
}

// readSysctl reads a file of /proc/sys in one piece. The kernel answers only the first
// read(2) of ip_local_reserved_ports, and cuts what does not fit, in the middle of a
// number. os.ReadFile begins with 512 bytes. The longest list, of every second port,
// has 190 KiB.
func readSysctl(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for size := 4 << 10; ; size *= 16 {
		text := make([]byte, size)
		n, err := f.ReadAt(text, 0)
		if n < size {
			if err == io.EOF {
				err = nil
			}
			return text[:n], err
		}
	}
}

// parseLocalPortRange reads "32768\t60999\n".
func parseLocalPortRange(text string) (PortRange, error) {
	fields := strings.Fields(text)
	if len(fields) != 2 || strings.ContainsAny(text, ",-") {
		return PortRange{}, fmt.Errorf("safedial: local port range %q: want two ports", text)
	}
	ranges, err := parsePortRanges(fields[0] + "-" + fields[1])
	if err != nil {
		return PortRange{}, fmt.Errorf("safedial: local port range %q: %w", text, err)
	}
	return ranges[0], nil
}

// parseReservedPorts reads "8080,9148-9150\n". The kernel writes a bitmap that way,
// so the ranges ascend and do not touch.
func parseReservedPorts(text string) ([]PortRange, error) {
	ranges, err := parsePortRanges(strings.TrimSpace(text))
	if err != nil {
		return nil, fmt.Errorf("safedial: reserved ports: %w", err) // the text can be long
	}
	return ranges, nil
}
