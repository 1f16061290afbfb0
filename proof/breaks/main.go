//go:build linux

// Breaks breaks a line of the library at a time, in a copy, and runs the tests that should
// notice: a test that never fails proves nothing. It prints which tests failed, and exits
// with 1 if a break goes unnoticed. It takes a few minutes.
//
//	go run ./proof/breaks
//	go run ./proof/breaks -only look
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A change breaks the library: in the file, the new text takes the place of the old.
type change struct {
	name     string
	file     string
	old, new string
	tests    string // a regexp of those that should fail
	flags    []string
}

var changes = []change{
	{
		name: "look never finds a self-connection", file: "connect_linux.go",
		old: "case sameEndpoint(local, peer):", new: "case false && sameEndpoint(local, peer):",
		tests: "NeverSelfConnects$|SelfConnectError|CallersLingering|StaleRange",
	},
	{
		name: "undo does nothing", file: "descriptor_linux.go",
		old: "func (d *descriptor) disconnect() error {\n", new: "func (d *descriptor) disconnect() error {\n\treturn nil\n",
		tests: "CallersLingering|OptionsAfterUndo|RestartAfterSelfConnections",
	},
	{
		name:  "the kernel is told no port range",
		file:  "descriptor_linux.go",
		old:   "func (d *descriptor) setPortRange(r PortRange) error {\n",
		new:   "func (d *descriptor) setPortRange(r PortRange) error {\n\treturn nil\n",
		tests: "LocalPorts$|OptionOnlyWhereNeeded|KernelClamps",
	},
	{
		name: "the two ends of the port range are swapped", file: "descriptor_linux.go",
		old: "uint32(r.High)<<16 | uint32(r.Low)", new: "uint32(r.Low)<<16 | uint32(r.High)",
		tests: "LocalPorts$|OptionOnlyWhereNeeded",
	},
	{
		name: "a part without a port is not left out", file: "choice.go",
		old: "strict = strict && c.ports.known", new: "strict = false",
		tests: "TestChoice$|LocalPortsImpossible",
	},
	{
		name: "the port range is told without need", file: "choice.go",
		old: "case trusted && !c.ports.mayChoose(own):", new: "case false && trusted:",
		tests: "OptionOnlyWhereNeeded|CrowdedDestination",
	},
	{
		name: "no destination is crowded", file: "connect_linux.go",
		old: "s.choice.ports.otherParity(port) && readPorts().otherParity(port)", new: "false",
		tests: "CrowdedDestination$",
	},
	{
		name: "net repeats what the hook has repeated", file: "errors.go",
		old: "func hideFromNet(err error) error {\n", new: "func hideFromNet(err error) error {\n\treturn err\n",
		tests: "Exhausted|TestDifferential$",
	},
	{
		name: "SO_REUSEADDR is not lent", file: "connect_linux.go",
		old: "s.reuse = s.reuse || s.desc.setReuseAddr()", new: "s.reuse = false",
		tests: "UnderLoadWithoutPortRange", flags: []string{"-load", "8s"},
	},
	{
		name: "a UDP socket that met itself is not kept", file: "dial.go",
		old: "\t\t\tkept = conn\n", new: "\t\t\t_ = conn.Close()\n",
		tests: "UDPNeverSelfConnects$|UDPRetries",
	},
	{
		name: "elsewhere than on Linux, no connection is checked", file: "dial.go",
		old: "case sameEndpoint(local, peer):", new: "case false && sameEndpoint(local, peer):",
		tests: "NeverSelfConnects$|SelfConnectError", flags: []string{"-tags", "safedial_portable"},
	},
}

func main() {
	only := flag.String("only", "", "make the breaks whose names match this `regexp`")
	flag.Parse()
	match, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "breaks:", err)
		os.Exit(2)
	}
	unnoticed := 0
	for _, c := range changes {
		if !match.MatchString(c.name) {
			continue
		}
		failed, err := c.try()
		if err != nil {
			fmt.Fprintf(os.Stderr, "breaks: %s: %v\n", c.name, err)
			os.Exit(1)
		}
		if len(failed) == 0 {
			unnoticed++
			failed = []string{"NOTHING FAILED"}
		}
		fmt.Printf("%s: %s\n", c.name, strings.Join(failed, " "))
	}
	if unnoticed > 0 {
		os.Exit(1)
	}
}

// try makes the change in a copy of the module, and returns the tests that fail there.
func (c change) try() (failed []string, err error) {
	module, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "breaks")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.CopyFS(dir, os.DirFS(strings.TrimSpace(string(module)))); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, c.file)
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(text, []byte(c.old)); n != 1 {
		return nil, fmt.Errorf("%q is %d times in %s", c.old, n, c.file)
	}
	if err := os.WriteFile(file, bytes.Replace(text, []byte(c.old), []byte(c.new), 1), 0o600); err != nil {
		return nil, err
	}
	args := []string{"test", "-vet=off", "-count=1", "-timeout=5m", "-v", "-run", c.tests}
	if i := slices.Index(c.flags, "-tags"); i >= 0 {
		args = append(args, c.flags[i:i+2]...)
		c.flags = slices.Delete(slices.Clone(c.flags), i, i+2)
	}
	var output bytes.Buffer
	for _, pkg := range []string{".", "./proof"} {
		flags := c.flags
		if pkg == "." {
			flags = nil // which are the proofs'
		}
		cmd := exec.Command("go", append(append(slices.Clone(args), pkg), flags...)...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &output, &output
		_ = cmd.Run() // what fails is in the output
	}
	for _, name := range regexp.MustCompile(`(?m)^--- FAIL: (\w+)|(build failed)`).FindAllStringSubmatch(output.String(), -1) {
		if name[2] != "" {
			_, _ = io.Copy(os.Stderr, &output)
			return nil, fmt.Errorf("the change does not compile")
		}
		failed = append(failed, name[1])
	}
	slices.Sort(failed)
	return slices.Compact(failed), nil
}
