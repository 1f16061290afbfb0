// Package bpf is apart from the library because it loads BPF programs, with a library on
// which safedial must not depend. It proves that the programs of a control group do to
// safedial's dials what they do to net.Dialer's: load balancers below connect(2), as those
// of Kubernetes, and programs that deny or rewrite bind(2), as systemd's.
package bpf
