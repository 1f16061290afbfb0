// Package helper listens for others.
package helper

import (
	"fmt"
	"net"
)

// Config says where to listen.
type Config struct {
	Host string
	Port int // want Port:"listens"
}

// Start listens.
func Start(address string) { // want address:"listens"
	net.Listen("tcp", address)
}

// Run listens.
func (c *Config) Run() {
	Start(fmt.Sprintf("%s:%d", c.Host, c.Port))
}

// Dial does not.
func Dial(address string) {
	net.Dial("tcp", address)
}
