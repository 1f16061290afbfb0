package dialbench

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// processTime returns the processor time that this process has used, in nanoseconds.
func processTime() float64 {
	var usage unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return float64(unix.TimevalToNsec(usage.Utime) + unix.TimevalToNsec(usage.Stime))
}

// machineTime returns the processor time that all processes have used, in
// nanoseconds. The kernel counts it in ticks of 10 ms (proc_stat(5)), so that only
// the sum of many batches tells something.
func machineTime() float64 {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	ticks := 0.0
	for i, field := range strings.Fields(line) {
		const idle, iowait = 4, 5
		if n, err := strconv.ParseFloat(field, 64); err == nil && i != idle && i != iowait && i <= 8 {
			ticks += n
		}
	}
	return ticks * 1e7
}

// get returns a request by http.Transport that makes a connection of its own.
func get(dial func(ctx context.Context, network, address string) (net.Conn, error), address string) dialFunc {
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	return func() (io.Closer, error) {
		response, err := client.Get("http://" + address + "/")
		if err != nil {
			return nil, err
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			return nil, err
		}
		if response.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("status %s", response.Status)
		}
		return response.Body, nil
	}
}
