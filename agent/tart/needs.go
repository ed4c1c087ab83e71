package tart

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

// Files of macOS that settings are read from.
const (
	loginWindow     = "/Library/Preferences/com.apple.loginwindow"
	internetSharing = "/Library/Preferences/SystemConfiguration/com.apple.InternetSharing.default.plist"
)

const (
	// leaseDefault is how long macOS leases an address to a VM unless it was told.
	leaseDefault = 86400
	// leaseLong is too long: about 250 VMs may start in it.
	leaseLong = 3600
)

// Needs looks at what VMs need of the host besides the tart command: a user who is
// logged in, after a reboot too, with a keychain that is open, and addresses. It
// looks on macOS only.
func (c *CLI) Needs(ctx context.Context) []hypervisor.Need {
	if c.host.goos != "darwin" {
		return nil
	}
	name := c.cfg.User
	if name == "" || name == "root" {
		if c.host.euid == 0 {
			return []hypervisor.Need{{What: "tart's user", Unmet: "root: guests with macOS 15 or newer do not start, those with Linux do",
				Advice: "join again with --tart-user NAME, and give that user the VMs"}, c.needLeases(ctx)}
		}
		if u, err := user.Current(); err == nil {
			name = u.Username
		}
	}
	return []hypervisor.Need{c.needSession(name), c.needKeychain(ctx, name), c.needAutoLogin(ctx, name), c.needLeases(ctx)}
}

// needSession looks who is logged in at the screen. That is the usual way to an open
// keychain, and not the only one: what keeps VMs from starting is told by that.
func (c *CLI) needSession(name string) hypervisor.Need {
	n := hypervisor.Need{What: "tart's user", Met: name + " is logged in at the screen"}
	owner := ""
	if info, err := os.Stat(c.host.console); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			owner = strconv.FormatUint(uint64(st.Uid), 10)
			if u, err := user.LookupId(owner); err == nil {
				owner = u.Username
			}
		}
	}
	switch {
	case owner == name:
	case owner == "":
		n.Unmet = "who is logged in at the screen cannot be told"
	case owner == "root" || owner == "0":
		n.Unmet = "nobody is logged in at the screen: VMs of " + name + " start only while the login keychain is open all the same"
	default:
		n.Unmet = fmt.Sprintf("%s is logged in at the screen, and VMs run as %s", owner, name)
	}
	if n.Unmet != "" {
		n.Advice = "log in at the Mac's screen as " + name + ", or join again with --tart-user"
	}
	return n
}

func (c *CLI) needKeychain(ctx context.Context, name string) hypervisor.Need {
	n := hypervisor.Need{What: "login keychain", Met: "of " + name + ", unlocked"}
	if u, err := c.as(); err == nil && u != nil && c.host.euid != 0 {
		n.Unmet, n.Advice = "of "+name+" cannot be asked by another user", "run it again with sudo"
		return n
	}
	if why := c.keychainTrouble(ctx); why != nil {
		n.Unmet, n.Grave = why.Error(), true
		n.Advice = "log in at the Mac's screen as " + name + "; on a Mac without one make the keychain as tart's FAQ says, and unlock it after each boot"
	}
	return n
}

// needAutoLogin looks whether the user is logged in after a reboot.
func (c *CLI) needAutoLogin(ctx context.Context, name string) hypervisor.Need {
	n := hypervisor.Need{What: "automatic login", Met: name + " is logged in after a reboot"}
	who := ""
	res, err := c.run.Run(ctx, command.Command{Path: c.host.defaults, Args: command.Words("read", loginWindow, "autoLoginUser"), Timeout: c.cfg.Query})
	if err == nil && res.ExitCode == 0 {
		who = strings.TrimSpace(string(res.Stdout))
	}
	_, err = os.Stat(c.host.autoLogin)
	switch {
	case who == "":
		n.Unmet = "is off: after a reboot no VM starts until " + name + " logs in"
	case who != name:
		n.Unmet = fmt.Sprintf("is of %s: after a reboot no VM of %s starts", who, name)
	case err != nil:
		n.Unmet = "is set, but without a password: it does not happen"
	}
	if n.Unmet != "" {
		n.Advice = "set it in System Settings, Users & Groups (not possible with FileVault)"
	}
	return n
}

var leaseTime = regexp.MustCompile(`DHCPLeaseTimeSecs"?\s*=\s*"?([0-9]+)`)

// needLeases looks for how long a VM's address is kept from others after its end.
// Each VM has a hardware address of its own, so that each takes a lease.
func (c *CLI) needLeases(ctx context.Context) hypervisor.Need {
	seconds := leaseDefault
	res, err := c.run.Run(ctx, command.Command{Path: c.host.defaults, Args: command.Words("read", internetSharing, "bootpd"), Timeout: c.cfg.Query})
	if err == nil && res.ExitCode == 0 {
		if m := leaseTime.FindSubmatch(res.Stdout); m != nil {
			seconds, _ = strconv.Atoi(string(m[1])) // digits; too many of them are too long as well
		}
	}
	n := hypervisor.Need{What: "addresses", Met: fmt.Sprintf("of VMs are leased for %d s", seconds)}
	if seconds > leaseLong {
		n.Unmet = fmt.Sprintf("of VMs are leased for %d s: after some 250 VMs in that time the next have none", seconds)
		n.Advice = "sudo defaults write " + internetSharing + " bootpd -dict DHCPLeaseTimeSecs -int 600"
	}
	return n
}
