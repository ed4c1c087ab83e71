package tart

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

// tart and its VMs run as a user who is logged in, and not as root: for a guest of
// macOS 15 or newer the system makes a key in the user's login keychain, and root
// has none. See docs/decisions/0008-tart-user.md.

// host is what of this system is asked about the user. A test has its own.
type host struct {
	goos string
	euid int
	// console is the file whose owner is logged in at the screen.
	console string
	// autoLogin holds a password where a user is logged in after each boot.
	autoLogin          string
	security, defaults string // commands
}

func thisHost() host {
	return host{goos: runtime.GOOS, euid: os.Geteuid(), console: "/dev/console", autoLogin: "/etc/kcpassword",
		security: "/usr/bin/security", defaults: "/usr/bin/defaults"}
}

// as returns whom tart runs as, nil for the agent's own user. A directory service
// that does not answer at boot is asked again with the next command.
func (c *CLI) as() (*command.User, error) {
	if c.cfg.User == "" || c.cfg.User == "root" {
		return nil, nil
	}
	c.mu.Lock()
	u := c.user
	c.mu.Unlock()
	if u == nil {
		var err error
		if u, err = command.LookupUser(c.cfg.User); err != nil {
			return nil, fmt.Errorf("%w: --tart-user %s: %w", hypervisor.ErrKeychain, c.cfg.User, err)
		}
		c.mu.Lock()
		c.user = u
		c.mu.Unlock()
	}
	if int(u.UID) == c.host.euid {
		return nil, nil
	}
	return u, nil
}

// keychainTrouble tells why a VM could not start for want of a keychain, or nil.
func (c *CLI) keychainTrouble(ctx context.Context) error {
	u, err := c.as()
	if err != nil {
		return err
	}
	if u == nil && c.host.euid == 0 {
		return errors.New("tart runs as root, who has no login keychain: join again with --tart-user NAME")
	}
	if c.host.goos != "darwin" {
		return nil
	}
	home := ""
	if u != nil {
		home = u.Home
	} else if home, err = os.UserHomeDir(); err != nil {
		return err
	}
	path := filepath.Join(home, "Library", "Keychains", "login.keychain-db")
	res, err := c.run.Run(ctx, command.Command{Path: c.host.security, Args: command.Words("show-keychain-info").Values(path), As: u, Timeout: c.cfg.Query})
	switch {
	case err != nil:
		return fmt.Errorf("the login keychain cannot be asked: %w", err)
	case res.ExitCode != 0:
		return fmt.Errorf("the login keychain does not open: %s", command.LastLine(res.Stderr))
	}
	return nil
}

// blameKeychain finds out whether a start that the system refused without a reason
// failed for want of a keychain.
func (c *CLI) blameKeychain(ctx context.Context, err error) error {
	var failed *CommandError
	if !errors.As(err, &failed) || !errors.Is(failed.kind, errInternal) {
		return err
	}
	askCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	why := c.keychainTrouble(askCtx)
	if why == nil || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w: %w; %w", hypervisor.ErrKeychain, why, err)
}
