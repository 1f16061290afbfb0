// Package integration tests that database drivers and others take safedial's
// dialers as they are. It is a module of its own, so that the library depends on
// none of them.
package integration
