package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/agent/state"
)

// chooseRuntime decides by --runtime, by what the node was joined with before, or
// by what is installed, anka first. It fills in cfg and says what it decided.
func chooseRuntime(c *cli.Context, dir state.Dir, cfg *state.Config) (said string, err error) {
	before, err := dir.Config()
	again := err == nil
	ankaErr, tartErr := findCommand(&cfg.AnkaPath), findCommand(&cfg.TartPath)
	asked := c.String("runtime")
	switch {
	case asked != "":
		cfg.Runtime, said = asked, ", as --runtime says"
	case again && before.Runtime == state.RuntimeTart && tartErr == nil, again && before.Runtime == state.RuntimeAnka && ankaErr == nil:
		cfg.Runtime, said = before.Runtime, ", as before"
	case ankaErr == nil:
		cfg.Runtime = state.RuntimeAnka
		if tartErr == nil {
			said = "; tart is installed too: --runtime tart uses it"
		}
	case tartErr == nil:
		cfg.Runtime, said = state.RuntimeTart, "; anka is not installed"
	default:
		return "", hintf(fmt.Errorf("cannot join: the anka command was not found: %w; nor was tart: %w", ankaErr, tartErr),
			"install Anka or Tart on this host, or name the command with %s=/path/to/anka or %s=/path/to/tart; ankacluster doctor checks the rest", ankaPathEnv, tartPathEnv)
	}
	path, missing, env := cfg.AnkaPath, ankaErr, ankaPathEnv
	if cfg.Runtime == state.RuntimeTart {
		path, missing, env = cfg.TartPath, tartErr, tartPathEnv
	} else if cfg.TartUser != "" {
		return "", usagef("--tart-user %s is of no use with --runtime %s", cfg.TartUser, cfg.Runtime)
	}
	if missing != nil {
		return "", hintf(fmt.Errorf("cannot join: the %s command was not found: %w", cfg.Runtime, missing),
			"install it on this host, or name it with %s=/path/to/%s; ankacluster doctor checks the rest", env, cfg.Runtime)
	}
	if cfg.Runtime == state.RuntimeTart {
		place, err := placeTart(cfg, before, thisHost)
		if err != nil {
			return "", err
		}
		said = place + said
	}
	if change := otherVMs(before, *cfg); again && change != "" {
		if n := dir.OpenRecords(); n > 0 {
			return "", hintf(fmt.Errorf("cannot change %s: the node works on %d instances and tasks with %s", change, n, before.Runtime),
				"end them, or run ankacluster disjoin first")
		}
	}
	return fmt.Sprintf("hypervisor %s (%s)%s", cfg.Runtime, path, said), nil
}

// otherVMs tells what makes a node's VMs others than before, "" for nothing.
func otherVMs(before, now state.Config) string {
	switch {
	case before.Runtime != now.Runtime:
		return fmt.Sprintf("from %s to %s", before.Runtime, now.Runtime)
	case now.Runtime != state.RuntimeTart:
		return ""
	case before.TartHome != now.TartHome:
		return fmt.Sprintf("from VMs in %s to %s", before.TartHome, now.TartHome)
	case before.TartUser != now.TartUser:
		return fmt.Sprintf("from user %s to %s", cmp.Or(before.TartUser, "root"), cmp.Or(now.TartUser, "root"))
	}
	return ""
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

// host is what of this system decides whom tart runs as.
type host struct {
	goos string
	euid int
	// console returns the owner of the screen, "root" when nobody is logged in.
	console func() (string, error)
}

// thisHost is replaced by tests.
var thisHost = host{goos: runtime.GOOS, euid: os.Geteuid(), console: consoleUser}

// consoleUser is who is logged in at this host's screen.
func consoleUser() (string, error) {
	info, err := os.Stat("/dev/console")
	if err != nil {
		return "", err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", errors.New("the owner of /dev/console is not known")
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(st.Uid), 10))
	if err != nil {
		return "", err
	}
	return u.Username, nil
}

// placeTart decides whom tart runs as and where it keeps its VMs, and says so.
func placeTart(cfg *state.Config, before state.Config, h host) (said string, err error) {
	cfg.TartUser = cmp.Or(cfg.TartUser, before.TartUser)
	if cfg.TartUser == "" && h.goos == "darwin" && h.euid == 0 {
		cfg.TartUser, err = h.console()
		if err != nil || cfg.TartUser == "root" {
			return "", hintf(errors.New("cannot join: nobody is logged in at this Mac's screen, and macOS starts VMs only for a user whose keychain is open"),
				"log in there, best with automatic login, or name the user: --tart-user NAME (root, if all VMs are Linux)")
		}
	}
	var u *user.User
	if cfg.TartUser != "" {
		if u, err = user.Lookup(cfg.TartUser); err != nil {
			return "", usagef("--tart-user %s: this host has no such user", cfg.TartUser)
		}
		if h.euid != 0 && u.Uid != strconv.Itoa(h.euid) {
			return "", hintf(fmt.Errorf("cannot join: only root can run tart as %s", cfg.TartUser), "join with sudo, or as that user without --tart-user")
		}
	}
	if cfg.TartHome, err = tartHome(u); err != nil {
		return "", err
	}
	said = ", VMs in " + cfg.TartHome
	if u == nil {
		return said, nil
	}
	if info, err := os.Stat(cfg.TartHome); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok && strconv.FormatUint(uint64(st.Uid), 10) != u.Uid {
			return "", hintf(fmt.Errorf("cannot join: %s does not belong to %s, whom tart runs as", cfg.TartHome, cfg.TartUser),
				"give it to that user: sudo chown -R %s '%s', or name its owner with --tart-user", cfg.TartUser, cfg.TartHome)
		}
	}
	return ", as user " + cfg.TartUser + said, nil
}

// tartHome is where tart keeps its VMs. Its own default depends on the environment
// of what calls it, and a service has another than sudo. u is whom it runs as, nil for
// this user.
func tartHome(u *user.User) (string, error) {
	if home := os.Getenv("TART_HOME"); home != "" {
		return filepath.Abs(home)
	}
	home := ""
	if u == nil {
		u, _ = user.Current() // its environment may still tell
	}
	if u != nil {
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
