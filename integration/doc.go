// Package integration tests that database drivers and others take safedial's
// dialers as they are, and that BPF programs of a control group, such as the load
// balancers of Kubernetes, do to their dials what they do to net.Dialer's. It is a
// module of its own, so that the library depends on none of them.
package integration
