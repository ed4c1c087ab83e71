package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/agent"
	"github.com/ankacluster/ankacluster/agent/anka"
	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/agent/tart"
)

// openRuntime is the hypervisor that the node was joined with.
func openRuntime(dir agent.Dir, cfg agent.Config, runner *command.Runner) hypervisor.Runtime {
	if cfg.Runtime == agent.RuntimeTart {
		return tart.New(tart.Config{Path: cfg.TartPath, Home: cfg.TartHome, Dir: dir.VMOutput(), Timeouts: tart.DefaultTimeouts()}, runner)
	}
	cli := anka.New(cfg.AnkaPath, runner, anka.DefaultTimeouts())
	cli.RememberIn(dir.AnkaImages())
	return cli
}

// chooseRuntime decides by --runtime, by what the node was joined with before, or
// by what is installed, anka first. It fills in cfg and says what it decided.
func chooseRuntime(c *cli.Context, dir agent.Dir, cfg *agent.Config) (said string, err error) {
	before, err := dir.Config()
	again := err == nil
	ankaErr, tartErr := findCommand(&cfg.AnkaPath), findCommand(&cfg.TartPath)
	asked := c.String("runtime")
	switch {
	case asked != "":
		cfg.Runtime, said = asked, ", as --runtime says"
	case again && before.Runtime == agent.RuntimeTart && tartErr == nil, again && before.Runtime == agent.RuntimeAnka && ankaErr == nil:
		cfg.Runtime, said = before.Runtime, ", as before"
	case ankaErr == nil:
		cfg.Runtime = agent.RuntimeAnka
		if tartErr == nil {
			said = "; tart is installed too: --runtime tart uses it"
		}
	case tartErr == nil:
		cfg.Runtime, said = agent.RuntimeTart, "; anka is not installed"
	default:
		return "", hintf(fmt.Errorf("cannot join: the anka command was not found: %w; nor was tart: %w", ankaErr, tartErr),
			"install Anka or Tart on this host, or name the command with %s=/path/to/anka or %s=/path/to/tart; ankacluster doctor checks the rest", ankaPathEnv, tartPathEnv)
	}
	path, missing, env := cfg.AnkaPath, ankaErr, ankaPathEnv
	if cfg.Runtime == agent.RuntimeTart {
		path, missing, env = cfg.TartPath, tartErr, tartPathEnv
		if cfg.TartHome, err = tartHome(); err != nil {
			return "", err
		}
		said = ", VMs in " + cfg.TartHome + said
	}
	if missing != nil {
		return "", hintf(fmt.Errorf("cannot join: the %s command was not found: %w", cfg.Runtime, missing),
			"install it on this host, or name it with %s=/path/to/%s; ankacluster doctor checks the rest", env, cfg.Runtime)
	}
	if again && before.Runtime != cfg.Runtime {
		if n := dir.OpenRecords(); n > 0 {
			return "", hintf(fmt.Errorf("cannot change from %s to %s: the node works on %d instances and tasks with %s", before.Runtime, cfg.Runtime, n, before.Runtime),
				"end them, or run ankacluster disjoin first")
		}
	}
	return fmt.Sprintf("hypervisor %s (%s)%s", cfg.Runtime, path, said), nil
}

// findCommand makes path a full one: a service has a shorter search path than
// whoever joins.
func findCommand(path *string) error {
	found, err := exec.LookPath(*path)
	if err == nil {
		*path, err = filepath.Abs(found)
	}
	return err
}

// tartHome is where tart keeps its VMs. Its own default depends on the environment
// of who calls it, and a service has another than sudo.
func tartHome() (string, error) {
	if home := os.Getenv("TART_HOME"); home != "" {
		return filepath.Abs(home)
	}
	home := ""
	if u, err := user.Current(); err == nil {
		home = u.HomeDir
	}
	if home == "" {
		home = os.Getenv("HOME")
	}
	if home == "" {
		return "", hintf(errors.New("cannot join: this user has no home directory for tart's VMs"), "set TART_HOME=/path/to/a/directory")
	}
	return filepath.Join(home, ".tart"), nil
}
