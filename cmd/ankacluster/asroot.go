package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/internal/ownership"
	"github.com/ankacluster/ankacluster/internal/selfpath"
)

// asRoot lists the programs that the agent of root runs as root: itself, and the
// hypervisor's command unless that is run as another user.
func asRoot(cfg state.Config) []string {
	var programs []string
	if self, err := selfpath.Program(); err == nil {
		programs = append(programs, self)
	}
	path := cfg.AnkaPath
	if cfg.Runtime == state.RuntimeTart {
		path = cfg.TartPath
	}
	if cfg.Runtime == state.RuntimeTart && cfg.TartUser != "" && cfg.TartUser != "root" {
		return programs
	}
	if err := findCommand(&path); err == nil {
		programs = append(programs, path)
	}
	return programs
}

// refuseShared refuses to let root run what somebody else may replace: any program of
// that user, a CI job's too, would be root at the next heartbeat. The state directory
// counts, too: it says what is run.
func refuseShared(cfg state.Config, dir state.Dir) error {
	if thisHost.euid != 0 {
		return nil
	}
	if err := ownership.OnlyRoot(existing(string(dir))); errors.Is(err, ownership.ErrShared) {
		return hintf(fmt.Errorf("cannot join: root would keep what it runs in %s, and %w", dir, err), "let only root write there, or choose another one with --state-dir")
	}
	for i, path := range asRoot(cfg) {
		err := ownership.OnlyRoot(path)
		if !errors.Is(err, ownership.ErrShared) {
			continue // or it is not there, which others tell
		}
		err = fmt.Errorf("cannot join: root would run %s, and %w", path, err)
		if i == 0 {
			return hintf(err, "install it where only root may write, and join with that one: sudo install -m 755 %s %s; sudo %s join ...", quoted(path), rootsPrograms(), rootsPrograms()+"ankacluster")
		}
		env := ankaPathEnv
		if cfg.Runtime == state.RuntimeTart {
			env = tartPathEnv
		}
		if real, linkErr := filepath.EvalSymlinks(path); linkErr == nil && real != path && ownership.OnlyRoot(real) == nil {
			return hintf(err, "name it by its own path: sudo %s=%s ankacluster join ...", env, quoted(real))
		}
		return hintf(err, "let only root write there (sudo chown root ..., sudo chmod go-w ...), or name a copy with %s=/path/to/%s", env, cfg.Runtime)
	}
	return nil
}

// existing is a path, or the nearest folder above it that is there.
func existing(path string) string {
	for {
		if _, err := os.Lstat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// rootsPrograms is a folder that belongs to root on this system.
func rootsPrograms() string {
	if thisHost.goos == "darwin" {
		return "/Library/PrivilegedHelperTools/"
	}
	return "/usr/local/sbin/"
}
