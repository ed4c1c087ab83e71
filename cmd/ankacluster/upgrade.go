package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent"
	"github.com/ankacluster/ankacluster/agent/upgrade"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/buildinfo"
	"github.com/ankacluster/ankacluster/internal/selfpath"
)

func upgradeDir(dir agent.Dir) upgrade.Dir { return upgrade.Dir(filepath.Join(string(dir), "upgrade")) }

// upgrader replaces the agent's program for the agent.
type upgrader struct {
	dir   agent.Dir
	pools *pools
	self  string // by which the program is started; a link may lead on from there
	trust upgrade.Trust
}

// newUpgrader returns nil, which refuses upgrades, where join did not allow them and
// when this process does not know its own program.
func newUpgrader(cfg agent.Config, dir agent.Dir, pools *pools) agent.Upgrader {
	self, err := selfpath.Program()
	if err != nil || !cfg.AllowUpgrades {
		return nil
	}
	keys, err := upgrade.Keys(cfg.UpgradeKeys)
	if err != nil {
		return nil // join has refused it
	}
	return upgrader{dir, pools, self, upgrade.Trust{Keys: keys, OS: runtime.GOOS, Arch: runtime.GOARCH, Running: buildinfo.Version}}
}

func (u upgrader) Version() string { return buildinfo.Version }

func (u upgrader) Prepare(ctx context.Context, t controllerapi.UpgradeTask) error {
	return upgradeDir(u.dir).Prepare(ctx, t, u.trust, func(ctx context.Context, path string) (io.ReadCloser, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, controllersBase+path, nil)
		if err != nil {
			return nil, err
		}
		resp, err := (&http.Client{Transport: u.pools.toControllers}).Do(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusOK {
			_ = resp.Body.Close()
			return nil, fmt.Errorf("the controller answered %s", resp.Status)
		}
		return resp.Body, nil
	})
}

func (u upgrader) Begin(t controllerapi.UpgradeTask) error {
	return upgradeDir(u.dir).Begin(t, buildinfo.Version, u.self, func(previous string) error {
		// By way of a shell that ends at once: a guard that is this process's
		// child would stay as a zombie of the next version, which knows no
		// children.
		cmd := exec.Command("/bin/sh", "-c", `"$0" upgrade-guard --force-no-sudo --state-dir "$1" </dev/null >/dev/null 2>&1 &`, previous, string(u.dir))
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		return cmd.Run()
	})
}

// becomeNewVersion runs the program that is at this one's path now, in this
// process: there is never a moment with two agents, and the service manager
// sees no end.
func becomeNewVersion() error {
	self, err := selfpath.Program()
	if err != nil {
		return err
	}
	return fmt.Errorf("restart %s: %w", self, syscall.Exec(self, os.Args, os.Environ()))
}

// confirmUpgrade ends the trial of this version once the cloud knows the node.
func confirmUpgrade(ctx context.Context, dir agent.Dir, a *agent.Agent, log *zap.Logger) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for !a.Status().Registered {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	if err := upgradeDir(dir).Confirm(buildinfo.Version); err != nil {
		log.Error("upgrade not confirmed", zap.Error(err))
	}
}

// upgradeGuardCommand is the old version, watching over the new one.
func upgradeGuardCommand() *cli.Command {
	return &cli.Command{
		Name:   "upgrade-guard",
		Usage:  "watch an upgrade and roll it back when the new version does not work",
		Hidden: true,
		Flags: append(placeFlags(),
			&cli.DurationFlag{Name: "within", EnvVars: []string{"ANKA_UPGRADE_PROVE_WITHIN"}, Value: upgrade.ProveWithin, Usage: "how long the new version has"}),
		Action: func(c *cli.Context) error {
			dir, err := place(c)
			if err != nil {
				return err
			}
			program, err := upgradeDir(dir).Guard(c.Context, c.Duration("within"))
			if err != nil || program == "" {
				return err
			}
			return restartAgent(dir, program)
		},
	}
}

// restartAgent ends the agent of dir, whatever state it is in, and sees to it
// that the program now in place runs, where no service manager does.
func restartAgent(dir agent.Dir, program string) error {
	if pid := dir.RunningPID(); pid != 0 {
		// Killed, so that the service manager takes it for a failure.
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	if runsAsService(dir) {
		return nil
	}
	for deadline := time.Now().Add(stopTimeout); dir.RunningPID() != 0 && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	cmd := exec.Command(program, "run", "--force-no-sudo", "--state-dir", string(dir))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd.Start() // it outlives this process
}
