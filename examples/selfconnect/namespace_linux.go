package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"

	"github.com/safedial/safedial/internal/netns"
)

// namespaceEnv tells the program that it runs in a namespace of its own.
const namespaceEnv = "SAFEDIAL_SELFCONNECT_NAMESPACE"

// statusRefused is the exit status if the namespace can't be set up.
const statusRefused = 3

func inNamespace() bool { return os.Getenv(namespaceEnv) != "" }

// startInNamespace runs the program again in a network namespace of its own, and returns
// its exit status.
func startInNamespace(stdout, stderr io.Writer) (int, error) {
	runtime.LockOSThread() // the child dies with the thread that starts it
	defer runtime.UnlockOSThread()
	cmd := netns.Command(context.Background())
	cmd.Env = append(os.Environ(), namespaceEnv+"=1")
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err := cmd.Run()
	var refused *os.PathError
	var exit *exec.ExitError
	switch {
	case errors.As(err, &refused):
		return 0, refused.Err
	case errors.As(err, &exit) && exit.ExitCode() == statusRefused:
		return 0, errors.New("it has no rights over it")
	case errors.As(err, &exit):
		return exit.ExitCode(), nil
	}
	return statusKept, err
}

// runInNamespace shows the problem in this namespace, which is the program's own.
func runInNamespace(stdout, stderr io.Writer) int {
	err := netns.RaiseLoopback()
	if err == nil {
		err = netns.SetLocalPorts(namespacePorts.Low, namespacePorts.High)
	}
	if err != nil {
		return statusRefused
	}
	fmt.Fprintln(stdout, "In a network namespace of its own:")
	return show(stdout, stderr)
}
