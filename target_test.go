package safedial

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseTarget(t *testing.T) {
	for target, want := range map[string][2]string{
		"127.0.0.1:80":                {"tcp", "127.0.0.1:80"},
		"[::1]:80":                    {"tcp", "[::1]:80"},
		"[fe80::1%eth0]:80":           {"tcp", "[fe80::1%eth0]:80"},
		"localhost:http":              {"tcp", "localhost:http"},
		":80":                         {"tcp", ":80"},
		"":                            {"tcp", ""},
		"name":                        {"tcp", "name"},
		"unix.:80":                    {"tcp", "unix.:80"},
		"unix":                        {"unix", ""},
		"unix:relative":               {"unix", "relative"},
		"unix:relative/path":          {"unix", "relative/path"},
		"unix:/absolute":              {"unix", "/absolute"},
		"unix:///absolute":            {"unix", "/absolute"},
		"unix:///with%20percent:8080": {"unix", "/with%20percent:8080"},
		"unix:@abstract":              {"unix", "@abstract"},
		"unix-abstract:name":          {"unix", "@name"},
		"unix-abstract:///name":       {"unix", "@/name"},
		"\x00name":                    {"unix", "\x00name"},
		"\x00name:80":                 {"unix", "\x00name:80"},
	} {
		network, address := parseTarget(target)
		assert.Equal(t, want, [2]string{network, address}, "%q", target)
	}
}

func TestDialTarget(t *testing.T) {
	var d Dialer
	dir := t.TempDir()
	t.Chdir(dir)
	serve(t, "unix", filepath.Join(dir, "socket"))
	l := serve(t, "tcp", "127.0.0.1:0")
	targets := []string{l.Addr().String(), "unix:socket", "unix:" + dir + "/socket", "unix://" + dir + "/socket"}
	if runtime.GOOS == "linux" {
		serve(t, "unix", "@safedial"+filepath.Base(dir))
		name := "safedial" + filepath.Base(dir)
		targets = append(targets, "unix-abstract:"+name, "unix:@"+name, "\x00"+name)
	}
	for _, target := range targets {
		conn, err := d.DialTarget(t.Context(), target)
		if assert.NoError(t, err, "%q", target) {
			assertReal(t, conn, "%q", target)
		}
	}
}

func TestDialTargetErrors(t *testing.T) {
	var d Dialer
	_, err := d.DialTarget(t.Context(), "unix:"+filepath.Join(t.TempDir(), "absent"))
	assert.ErrorIs(t, err, os.ErrNotExist)
	for _, target := range []string{"", "127.0.0.1", "unix"} {
		conn, err := d.DialTarget(t.Context(), target)
		assert.Nil(t, conn)
		var op *net.OpError
		require.ErrorAs(t, err, &op, "%q", target)
		assert.Equal(t, "dial", op.Op)
	}
}
