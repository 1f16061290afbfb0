package listenports_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/tools/go/analysis/analysistest"

	"github.com/safedial/safedial/safedialcheck/listenports"
)

func TestListenPorts(t *testing.T) {
	analysistest.Run(t, analysistest.TestData(), listenports.Analyzer, "helper", "server", "generated")
}

func TestRange(t *testing.T) {
	flags := &listenports.Analyzer.Flags
	old := flags.Lookup("range").Value.String()
	require.Equal(t, "32768-60999", old)
	require.NoError(t, flags.Set("range", "8000-9000"))
	t.Cleanup(func() { require.NoError(t, flags.Set("range", old)) })
	analysistest.Run(t, analysistest.TestData(), listenports.Analyzer, "narrow")
	for _, bad := range []string{"", "80", "80-", "-80", "90-80", "1-65536", "a-b"} {
		assert.Error(t, flags.Set("range", bad), "%q", bad)
	}
}
