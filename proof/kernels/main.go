//go:build linux

// Kernels runs this module's tests inside real kernels: Debian's of several
// releases and architectures, or one that the user names. It boots each in QEMU,
// without KVM, from an initramfs that holds the statically built tests.
//
//	go run ./proof/kernels                            # every environment
//	go run ./proof/kernels -env 6.1-amd64 -run Differential -v .
//	go run ./proof/kernels -kernel bzImage -arch amd64
//
// It needs no root, and installs nothing: it says which Debian packages are missing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// dialing are the tests that run where an emulated processor is slow.
const dialing = "NeverSelfConnects|Differential|EveryWay|LocalPorts|Retries|UDP|Own|Fixed|KernelClamps|" +
	"Example|Parse|PortRange|Same|Split|Pick"

// An environment is a kernel on a machine, and the tests that run there if the user
// names none.
type environment struct {
	name   string
	arch   string // as Go names it
	kernel string // a file; if empty, the newest of Debian's packages
	suite  string // Debian's, that has the packages
	debian string // matches the names of the kernel's packages
	run    string
	sysctl string // NAME=VALUE, which the tests write in each network namespace
	excuse string // what a test that skips there must name in its reason: what is missing
}

var environments = []environment{
	{
		name:   "7.3-amd64",
		arch:   "amd64",
		suite:  "trixie-backports",
		debian: `^linux-(image|binary)-7\.3\.[0-9]+\+deb[0-9]+-cloud-amd64$`,
	},
	{
		name:   "7.3-amd64-step",
		arch:   "amd64",
		suite:  "trixie-backports",
		debian: `^linux-(image|binary)-7\.3\.[0-9]+\+deb[0-9]+-cloud-amd64$`,
		sysctl: "net/ipv4/ip_local_port_step_width=65535",
	},
	{name: "6.12-amd64", arch: "amd64", suite: "trixie", debian: `^linux-image-6\.12\.[0-9]+\+deb[0-9]+-cloud-amd64$`},
	{name: "6.1-amd64", arch: "amd64", suite: "bookworm", debian: `^linux-image-6\.1\.0-[0-9]+-cloud-amd64$`},
	{
		name:   "6.1-arm64",
		arch:   "arm64",
		suite:  "bookworm",
		debian: `^linux-image-6\.1\.0-[0-9]+-cloud-arm64$`,
		run:    dialing,
	},
	{
		name:   "6.1-s390x",
		arch:   "s390x",
		suite:  "bookworm",
		debian: `^linux-image-6\.1\.0-[0-9]+-s390x$`,
		run:    dialing,
		excuse: "socketcall(2)",
	},
	{
		name:   "5.10-amd64",
		arch:   "amd64",
		suite:  "bullseye",
		debian: `^linux-image-5\.10\.0-[0-9]+-cloud-amd64$`,
		excuse: "IP_LOCAL_PORT_RANGE",
	},
}

var (
	onlyEnv = flag.String(
		"env",
		"",
		"run in the environments whose names match this `regexp`; of several, those whose suite or kernel the mirror does not have are skipped",
	)
	parallel   = flag.Int("parallel", 1, "run so many environments at once")
	onlyArch   = flag.String("arch", "", "run on this `architecture` alone")
	kernelFile = flag.String(
		"kernel",
		"",
		"boot this `file` instead of Debian's kernels, on -arch, or this machine's architecture",
	)
	run      = flag.String("run", "", "run the tests that match this `regexp`")
	short    = flag.Bool("short", false, "run the short selection of the tests")
	skip     = flag.String("skip", "", "leave out the tests that match this `regexp`")
	count    = flag.Int("count", 1, "run each test so often")
	appended = flag.String(
		"append",
		"",
		"append these `words` to the kernel's command line: ipv6.disable=1, for example",
	)
	limit   = flag.Duration("limit", 20*time.Minute, "give each environment so much time")
	verbose = flag.Bool("v", false, "show the console")
	cache   = flag.String(
		"cache",
		"",
		"keep Debian's packages in this `folder`; remove it to fetch newer ones (default: a folder of the user's cache)",
	)
	sources = flag.String(
		"sources",
		"",
		"take Debian's packages from this apt sources.list `file` instead of the system's own",
	)
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(
			flag.CommandLine.Output(),
			"usage: kernels [flags] [packages; by default those of the library and its proof]",
		)
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := runAll(ctx, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "kernels:", err)
		os.Exit(1)
	}
}

var errFailed = errors.New("not every test passed")

func runAll(ctx context.Context, packages []string) error {
	envs, err := chosen()
	if err != nil {
		return err
	}
	if err := checkPrograms(envs); err != nil {
		return err
	}
	if *cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		*cache = filepath.Join(base, "safedial-kernels")
	}
	if err := os.MkdirAll(*cache, 0o755); err != nil {
		return err
	}
	var group sync.WaitGroup
	var ran, failed atomic.Int64
	turns := make(chan bool, *parallel)
	for _, env := range envs {
		group.Go(func() {
			turns <- true
			defer func() { <-turns }()
			if ctx.Err() != nil {
				return
			}
			start := time.Now()
			r, err := env.test(ctx, packages)
			if errors.Is(err, errNoPackage) && len(envs) > 1 {
				fmt.Printf("%s: skipped: %s\n", env.name, strings.Join(strings.Fields(err.Error()), " "))
				return
			}
			ran.Add(1)
			fmt.Printf("%s: %s, %d s\n", env.name, r, int(time.Since(start).Seconds()))
			if err != nil {
				failed.Add(1)
				fmt.Printf("%s: %v\n%s: the whole console is in %s\n", env.name, err, env.name, logFile(env))
			}
		})
	}
	group.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if failed.Load() > 0 || ran.Load() == 0 {
		return errFailed
	}
	return nil
}

// chosen returns the environments that the flags name.
func chosen() ([]environment, error) {
	if *kernelFile != "" {
		arch := runtime.GOARCH
		if *onlyArch != "" {
			arch = *onlyArch
		}
		if _, ok := machines[arch]; !ok {
			return nil, fmt.Errorf("no machine of the architecture %q is known", arch)
		}
		return []environment{{name: filepath.Base(*kernelFile), arch: arch, kernel: *kernelFile}}, nil
	}
	match, err := regexp.Compile(*onlyEnv)
	if err != nil {
		return nil, err
	}
	var envs []environment
	for _, env := range environments {
		if match.MatchString(env.name) && (*onlyArch == "" || *onlyArch == env.arch) {
			envs = append(envs, env)
		}
	}
	if len(envs) == 0 {
		return nil, errors.New("no environment has that name and architecture")
	}
	return envs, nil
}

// test runs the tests of the packages in the environment.
func (env environment) test(ctx context.Context, packages []string) (report, error) {
	dir, err := os.MkdirTemp("", "kernels")
	if err != nil {
		return report{}, err
	}
	defer os.RemoveAll(dir)
	kernel := env.kernel
	if kernel == "" {
		if kernel, err = fetchKernel(ctx, env); err != nil {
			return report{}, err
		}
	}
	shell, err := fetchBusybox(ctx, env)
	if err != nil {
		return report{}, err
	}
	image, err := buildImage(ctx, dir, env, shell, packages)
	if err != nil {
		return report{}, err
	}
	for try := 1; ; try++ {
		r, err := boot(ctx, env, kernel, image)
		if r.release != "" || ctx.Err() != nil || try == boots {
			return r, err
		}
		fmt.Fprintf(os.Stderr, "%s: boot %d of %d: %v\n", env.name, try, boots, err)
	}
}
