package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"os/user"
	"time"

	"github.com/ankacluster/ankacluster/agent/command"
)

// reportTart is the name of the VM that a report of tart makes.
const reportTart = reportVM + "tart"

// How long a report waits for a VM: until its process has refused, until it is
// listed, and until its guest answers.
const (
	tartRefuses = 30 * time.Second
	tartBoots   = 5 * time.Minute
	tartEnds    = 2 * time.Minute
	tartLook    = time.Second
)

// tartUser is whom a report starts tart's VMs as.
type tartUser struct {
	as   *command.User // nil: this user
	root bool          // root can try too
	home string        // TART_HOME
}

// reportUser finds the user by name, or who is logged in at the screen.
func reportUser(name string, h host) (tartUser, error) {
	if name == "" && h.euid == 0 && h.goos == "darwin" {
		var err error
		if name, err = h.console(); err != nil || name == "root" {
			return tartUser{}, hintf(usagef("--tart-vm: nobody is logged in at this Mac's screen"), "name the user that tart's VMs belong to: --tart-user NAME")
		}
	}
	t := tartUser{root: h.euid == 0}
	var u *user.User
	if name != "" {
		var err error
		if u, err = user.Lookup(name); err != nil {
			return t, usagef("--tart-user %s: this host has no such user", name)
		}
		if u.Uid != fmt.Sprint(h.euid) {
			if h.euid != 0 {
				return t, hintf(usagef("--tart-user %s: only root can start VMs as that user", name), "run it with sudo")
			}
			if t.as, err = command.LookupUser(name); err != nil {
				return t, err
			}
		}
	}
	var err error
	t.home, err = tartHome(u)
	return t, err
}

// word is the user's name, which no report has.
func (t tartUser) word() string {
	if t.as == nil {
		return ""
	}
	return t.as.Name
}

// line is a command line of tart's, as the user or as root.
func (t tartUser) line(asRoot bool, tart string, args ...string) []string {
	with := append([]string{"TART_HOME=" + t.home, "TART_NO_AUTO_PRUNE=1", tart}, args...)
	if asRoot || t.as == nil {
		return append([]string{"/usr/bin/env"}, with...)
	}
	return t.as.Line("/usr/bin/env", with...)
}

// tartLives starts a VM of tart's as root, then as the user, and follows that one
// from its first address to the lease that stays behind.
func (m *macReporter) tartLives(ctx context.Context, source string, t tartUser) (err error) {
	tart, err := exec.LookPath(m.tart)
	if err != nil {
		return hintf(fmt.Errorf("--tart-vm: the tart command was not found: %w", err), "name it with %s=/path/to/tart", tartPathEnv)
	}
	user := func(name string, args ...string) step { return step{name, t.line(false, tart, args...)} }
	defer func() { // also of a report that was broken off
		cleanCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
		defer cancel()
		for _, args := range [][]string{{"stop", "--timeout", "5", reportTart}, {"delete", reportTart}} {
			argv := t.line(t.root, tart, args...)
			_ = exec.CommandContext(cleanCtx, argv[0], argv[1:]...).Run()
		}
	}()
	keychain := step{"tart-keychain", []string{"security", "show-keychain-info"}}
	if t.as != nil {
		keychain.argv = t.as.Line("/usr/bin/security", "show-keychain-info")
	}
	if err := m.all(ctx, step{"tart-console", []string{"stat", "-f", "%Su", "/dev/console"}}, keychain,
		step{"tart-auto-login", []string{"defaults", "read", "/Library/Preferences/com.apple.loginwindow", "autoLoginUser"}},
		user("tart-clone", "clone", source, reportTart), user("tart-ip-image", "ip", reportTart),
		user("tart-set", "set", reportTart, "--random-mac", "--cpu", "2"), user("tart-get", "get", reportTart, "--format", "json"),
		user("tart-ip-none-yet", "ip", reportTart), user("tart-exec-stopped", "exec", reportTart, "true"),
	); err != nil {
		return err
	}
	if t.root && t.as != nil {
		run := m.Begin(ctx, "", "tart-run-root", t.line(true, tart, "run", "--no-graphics", reportTart)...)
		refused := ended(ctx, run.Ended, tartRefuses)
		err := m.all(ctx, user("tart-get-root", "get", reportTart, "--format", "json"))
		if !refused {
			err = errors.Join(err, m.all(ctx, user("tart-stop-root", "stop", "--timeout", "5", reportTart)))
			ended(ctx, run.Ended, tartEnds)
		}
		if err := errors.Join(err, run.Record()); err != nil {
			return err
		}
	}
	run := m.Begin(ctx, "", "tart-run-user", t.line(false, tart, "run", "--no-graphics", reportTart)...)
	err = m.followTart(ctx, t, tart, run.Ended)
	ended(ctx, run.Ended, tartEnds)
	if err := errors.Join(err, run.Record()); err != nil {
		return err
	}
	return m.all(ctx, user("tart-ip-left", "ip", reportTart), user("tart-list-left", "list", "--format", "json"),
		user("tart-delete", "delete", reportTart), user("tart-delete-again", "delete", reportTart))
}

// followTart follows a VM that is starting, until it was shut down or has ended.
func (m *macReporter) followTart(ctx context.Context, t tartUser, tart string, gone <-chan struct{}) error {
	user := func(name string, args ...string) step { return step{name, t.line(false, tart, args...)} }
	quiet := func(args ...string) bool {
		argv := t.line(false, tart, args...)
		return exec.CommandContext(ctx, argv[0], argv[1:]...).Run() == nil
	}
	answered := false
	for deadline := time.Now().Add(tartBoots); !answered && time.Now().Before(deadline); {
		if ended(ctx, gone, tartLook) || ctx.Err() != nil {
			return errors.Join(ctx.Err(), m.all(ctx, user("tart-get-refused", "get", reportTart, "--format", "json")))
		}
		answered = quiet("exec", reportTart, "true")
	}
	if err := m.all(ctx, user("tart-get-running", "get", reportTart, "--format", "json"), user("tart-list-running", "list", "--format", "json"),
		user("tart-ip", "ip", reportTart), user("tart-run-again", "run", "--no-graphics", reportTart),
		user("tart-exec-exit-7", "exec", reportTart, "sh", "-c", "exit 7"), user("tart-exec-disk", "exec", reportTart, "diskutil", "info", "/"),
		user("tart-exec-sudo", "exec", reportTart, "sudo", "-n", "true"), user("tart-delete-running", "delete", reportTart),
	); err != nil {
		return err
	}
	if _, err := m.RecordInput(ctx, "echo said; exit 3\n", "tart-exec-stdin", t.line(false, tart, "exec", "-i", reportTart, "sh")...); err != nil {
		return err
	}
	if err := m.all(ctx, user("tart-shutdown", "exec", reportTart, "sh", "-c", "(sleep 1; sudo -n shutdown -h now) >/dev/null 2>&1 &")); err != nil {
		return err
	}
	if !ended(ctx, gone, tartEnds) {
		return m.all(ctx, user("tart-stop", "stop", "--timeout", "30", reportTart))
	}
	return m.all(ctx, user("tart-stop-stopped", "stop", reportTart))
}

// ended waits for a command's end, and reports whether it came.
func ended(ctx context.Context, end <-chan struct{}, limit time.Duration) bool {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-end:
		return true
	case <-ctx.Done():
	case <-t.C:
	}
	return false
}
