package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/agent/node"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/agent/upgrade"
	"github.com/ankacluster/ankacluster/internal/selfpath"
)

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

// upgradeGuardCommand is the old version, watching over the new one.
func upgradeGuardCommand() *cli.Command {
	return &cli.Command{
		Name:   "upgrade-guard",
		Usage:  "watch an upgrade and roll it back when the new version does not work",
		Hidden: true,
		Flags: append(placeFlags(),
			&cli.DurationFlag{Name: "within", EnvVars: []string{"ANKA_UPGRADE_PROVE_WITHIN"}, Value: upgrade.ProveWithin, Usage: "how long the new version has"}),
		Action: func(c *cli.Context) error {
			dir, err := writableStateDir(c)
			if err != nil {
				return err
			}
			program, err := node.UpgradeDir(dir).Guard(c.Context, c.Duration("within"))
			if err != nil || program == "" {
				return err
			}
			return restartAgent(dir, program)
		},
	}
}

// restartAgent ends the agent of dir, whatever state it is in, and sees to it
// that the program now in place runs, where no service manager does.
func restartAgent(dir state.Dir, program string) error {
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
