// Modproxy fills a folder with the modules of the working tree, as a Go module proxy serves
// them. So what is not released yet can be required, and installed, as a user would:
//
//	go run ./modproxy -version v0.1.0 /tmp/proxy
//	GOPROXY=file:///tmp/proxy,$(go env GOPROXY) GONOSUMDB=github.com/safedial/safedial,github.com/safedial/safedial/* \
//		go install github.com/safedial/safedial/safedialcheck@v0.1.0
//
// It fails if a module has a replace directive, because "go install" refuses that.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

func main() {
	version := flag.String("version", "v0.1.0", "the `version` that the modules have")
	root := flag.String("root", "..", "the working tree's `folder`")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: modproxy [-version v0.1.0] [-root folder] folder")
		os.Exit(2)
	}
	if err := fill(flag.Arg(0), *root, *version); err != nil {
		fmt.Fprintln(os.Stderr, "modproxy:", err)
		os.Exit(1)
	}
}

// fill adds every module of the working tree.
func fill(proxy, root, version string) error {
	files, err := exec.Command("git", "-C", root, "ls-files", "go.mod", "*/go.mod").Output()
	if err != nil {
		return fmt.Errorf("git ls-files: %w", err)
	}
	for _, file := range strings.Fields(string(files)) {
		if strings.Contains(file, "testdata/") {
			continue
		}
		if err := add(proxy, filepath.Join(root, filepath.Dir(file)), version); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

// add adds the module in the folder.
func add(proxy, folder, version string) error {
	text, err := os.ReadFile(filepath.Join(folder, "go.mod"))
	if err != nil {
		return err
	}
	mod, err := modfile.Parse("go.mod", text, nil)
	if err != nil {
		return err
	}
	if len(mod.Replace) > 0 {
		return errors.New("it has a replace directive")
	}
	escaped, err := module.EscapePath(mod.Module.Mod.Path)
	if err != nil {
		return err
	}
	info, err := json.Marshal(struct {
		Version string
		Time    time.Time
	}{version, time.Now().UTC()})
	if err != nil {
		return err
	}
	versions := filepath.Join(proxy, escaped, "@v")
	if err := os.MkdirAll(versions, 0o755); err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"list": []byte(version + "\n"), version + ".info": info, version + ".mod": text,
	} {
		if err := os.WriteFile(filepath.Join(versions, name), content, 0o644); err != nil {
			return err
		}
	}
	// The zip file leaves out the modules that are nested in this one.
	archive, err := os.Create(filepath.Join(versions, version+".zip"))
	if err != nil {
		return err
	}
	return errors.Join(
		zip.CreateFromDir(archive, module.Version{Path: mod.Module.Mod.Path, Version: version}, folder),
		archive.Close(),
	)
}
