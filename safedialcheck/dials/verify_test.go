package dials

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMembers looks the members that the fixes may use up in the library's API.
func TestMembers(t *testing.T) {
	text, err := os.ReadFile("../../dialer.go")
	require.NoError(t, err)
	names := regexp.MustCompile(`(?m)^func \(d \*Dialer\) (\w+)|^\t([A-Z]\w*) `)
	found := make(map[string]bool)
	for _, match := range names.FindAllStringSubmatch(string(text), -1) {
		found[match[1]+match[2]] = true
	}
	for _, name := range members {
		assert.True(t, found[name], "safedial.Dialer has no %s", name)
	}
}
