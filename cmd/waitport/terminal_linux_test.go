package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestResultOnTerminal has a line of its own, where the line before was rewritten.
func TestResultOnTerminal(t *testing.T) {
	control, terminal := openTerminal(t)
	status := run([]string{"-timeout", "1s", "127.0.0.1:9"}, terminal, terminal)
	require.NoError(t, terminal.Close())
	screen := readAll(t, control)
	assert.Equal(t, statusTimeout, status)
	const erase = "\r\x1b[K"
	require.Contains(t, screen, erase+"waiting for 127.0.0.1:9: ")
	last := screen[strings.LastIndex(screen, erase)+len(erase):]
	assert.True(t, strings.HasPrefix(last, "waitport: 127.0.0.1:9 is not up after "), "%q", last)
}

// openTerminal returns both ends of a pseudoterminal.
func openTerminal(t *testing.T) (control, terminal *os.File) {
	t.Helper()
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { control.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(control.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(control.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	return control, terminal
}

// readAll returns what was written to a terminal that is closed.
func readAll(t *testing.T, control *os.File) string {
	t.Helper()
	var text strings.Builder
	buffer := make([]byte, 4096)
	for {
		n, err := control.Read(buffer)
		text.Write(buffer[:n])
		if errors.Is(err, unix.EIO) {
			return text.String()
		}
		require.NoError(t, err)
	}
}
