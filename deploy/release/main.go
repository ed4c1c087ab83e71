// Command release makes everything that a release consists of: archives, Linux
// packages, container images, a Homebrew formula, bills of materials, checksums
// and signatures. The same commit gives the same bytes, on any machine.
//
//	go run . -out ../../dist            make the release
//	go run . -licences                  only check the licences of what is linked
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"aead.dev/minisign"
	"golang.org/x/sync/errgroup"
)

// programs are what is released.
var programs = []string{"ankacluster", "anka-controller", "anka-registry"}

// platform is what a program is built for.
type platform struct{ os, arch string }

func (p platform) String() string { return p.os + "/" + p.arch }

// release is what all steps need to know.
type release struct {
	root, out, work       string // the source, the result, and files on the way
	version, commit, date string
	time                  time.Time // of the commit: every file's time
	platforms             []platform
	download              string // where the archives will be found
	keyFile               string
	key                   *minisign.PrivateKey // nil: nothing is signed
	say                   func(format string, args ...any)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "release: error: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var (
		r         release
		platforms string
		only      bool
	)
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	flags.StringVar(&r.root, "root", "../..", "`DIR` of the source")
	flags.StringVar(&r.out, "out", "", "`DIR` of the result; what is in it is removed (default: dist below the source)")
	flags.StringVar(&r.version, "version", "", "`VERSION` (default: what deploy/release/version prints)")
	flags.StringVar(&platforms, "platforms", "darwin/arm64 darwin/amd64 linux/amd64 linux/arm64", "`LIST` of systems and processors")
	flags.StringVar(&r.download, "download", "https://github.com/ankacluster/ankacluster/releases/download", "`URL` under which a folder named after the version's tag will hold the archives")
	flags.StringVar(&r.keyFile, "key", "", "`FILE` with the minisign key that signs the checksums and the agents for upgrades; its password is taken from MINISIGN_PASSWORD")
	flags.BoolVar(&only, "licences", false, "only check the licences of the modules that are linked")
	if err := flags.Parse(args); err != nil {
		return err
	}
	for _, s := range strings.Fields(platforms) {
		system, arch, ok := strings.Cut(s, "/")
		if !ok {
			return fmt.Errorf("-platforms: %q is not SYSTEM/PROCESSOR", s)
		}
		r.platforms = append(r.platforms, platform{system, arch})
	}
	if r.keyFile != "" {
		key, err := readKey(r.keyFile, os.Getenv("MINISIGN_PASSWORD"))
		if err != nil {
			return fmt.Errorf("-key: %w", err)
		}
		r.key = &key
	}
	begun := time.Now()
	r.say = func(format string, args ...any) {
		fmt.Printf("%5.1fs  %s\n", time.Since(begun).Seconds(), fmt.Sprintf(format, args...))
	}
	if err := r.prepare(ctx); err != nil {
		return err
	}
	defer os.RemoveAll(r.work)
	modules, err := r.collectLicences(ctx)
	if err != nil {
		return err
	}
	r.say("licences of %d modules are allowed", len(modules))
	if only {
		printLicences(modules)
		return nil
	}
	return r.make(ctx, modules)
}

// prepare finds out what is to be built.
func (r *release) prepare(ctx context.Context) error {
	var err error
	if r.root, err = filepath.Abs(r.root); err != nil {
		return err
	}
	if r.out == "" {
		r.out = filepath.Join(r.root, "dist")
	}
	if r.out, err = filepath.Abs(r.out); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, filepath.Join(r.root, "deploy/release/version")).Output()
	if err != nil {
		return fmt.Errorf("deploy/release/version: %w", err)
	}
	fields := strings.Fields(string(out))
	if len(fields) != 3 {
		return fmt.Errorf("deploy/release/version printed %q, not three words", out)
	}
	if r.version == "" {
		r.version = fields[0]
	}
	r.commit, r.date = fields[1], fields[2]
	if r.time, err = time.Parse(time.RFC3339, r.date); err != nil {
		return errors.New("a release is made from a git checkout: it has the time of its commit")
	}
	r.work, err = os.MkdirTemp("", "ankacluster-release-")
	return err
}

// make builds the programs and wraps them, as many at a time as there are
// processors.
func (r *release) make(ctx context.Context, modules []module) error {
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	r.say("building %s of %s (%s)", r.version, r.commit, r.date)
	if err := r.writeDocs(ctx); err != nil {
		return err
	}
	if err := r.writeNotices(modules); err != nil {
		return err
	}
	for _, p := range r.platforms { // go build uses all processors by itself
		if err := r.build(ctx, p); err != nil {
			return err
		}
		r.say("built for %s", p)
	}
	if err := r.signAgents(); err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, p := range r.platforms {
		g.Go(func() error { return r.archive(p) })
		g.Go(func() error { return r.billOfMaterials(p, modules) })
		if p.os == "linux" {
			for _, name := range programs {
				g.Go(func() error { return r.linuxPackages(p, name) })
			}
		}
	}
	for _, name := range []string{"anka-controller", "anka-registry"} {
		g.Go(func() error { return r.image(name) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	r.say("archives, packages, images and bills of materials are made")
	if err := r.formula(); err != nil {
		return err
	}
	return r.sign()
}

// build builds the programs for one platform, as `make build` does.
func (r *release) build(ctx context.Context, p platform) error {
	const info = "github.com/ankacluster/ankacluster/internal/buildinfo"
	ldflags := fmt.Sprintf("-s -w -buildid= -X %[1]s.Version=%[2]s -X %[1]s.commit=%[3]s -X %[1]s.date=%[4]s", info, r.version, r.commit, r.date)
	if r.key != nil { // whose agents the agent trusts
		ldflags += " -X github.com/ankacluster/ankacluster/agent/upgrade.keys=" + r.key.Public().(minisign.PublicKey).String()
	}
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", r.binaries(p) + "/"}
	for _, name := range programs {
		args = append(args, "./cmd/"+name)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = r.root
	cmd.Env = goEnv(p)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build for %s: %w\n%s", p, err, out)
	}
	return nil
}

// binaries is where the programs of a platform are.
func (r *release) binaries(p platform) string { return filepath.Join(r.work, "bin", p.os+"-"+p.arch) }

// goEnv is the environment of the go command for one platform: the user's
// settings that change what is built are left out.
func goEnv(p platform) []string {
	env := os.Environ()
	return append(env, "CGO_ENABLED=0", "GOOS="+p.os, "GOARCH="+p.arch, "GOFLAGS=-mod=readonly", "GOWORK=off", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GOFIPS140=off")
}

// host is the platform that this process runs on.
func host() platform { return platform{runtime.GOOS, runtime.GOARCH} }
