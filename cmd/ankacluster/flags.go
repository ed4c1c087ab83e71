package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/agent"
)

// Environment that stands in for flags.
const (
	stateDirEnv = "ANKA_STATE_DIR"
	ankaPathEnv = "ANKA_PATH"
	tartPathEnv = "TART_PATH"
)

// placeFlags say which agent of this host a command is about.
func placeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "state-dir", EnvVars: []string{stateDirEnv}, DefaultText: systemStateDir(), Usage: "keep the agent's identity, settings and journal in `DIR`"},
		&cli.BoolFlag{Name: "force-no-sudo", Aliases: []string{"f"}, Usage: "run as this user instead of root; the state directory is then below your home"},
	}
}

// place finds the state directory, and refuses to act for the system's agent as
// anybody but root.
func place(c *cli.Context) (agent.Dir, error) {
	dir, err := stateDir(c)
	if err != nil {
		return "", err
	}
	if os.Geteuid() != 0 && !c.Bool("force-no-sudo") {
		return "", hintf(fmt.Errorf("%s must run as root", c.Command.HelpName), "sudo %s …, or add --force-no-sudo to run the agent as yourself", c.Command.HelpName)
	}
	return dir, nil
}

// stateDir finds the state directory.
func stateDir(c *cli.Context) (agent.Dir, error) {
	if d := c.String("state-dir"); d != "" {
		abs, err := filepath.Abs(d)
		return agent.Dir(abs), err
	}
	if !c.Bool("force-no-sudo") || os.Geteuid() == 0 {
		return agent.Dir(systemStateDir()), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", hintf(err, "name a directory with --state-dir")
	}
	if runtime.GOOS == "darwin" {
		return agent.Dir(filepath.Join(home, "Library", "Application Support", "ankacluster")), nil
	}
	return agent.Dir(filepath.Join(home, ".local", "state", "ankacluster")), nil
}

func systemStateDir() string {
	if runtime.GOOS == "darwin" {
		return "/Library/Application Support/ankacluster"
	}
	return "/var/lib/ankacluster"
}

// durationFlag reads a flag that is a duration with a unit; to keeps its value
// when the flag is not set.
func durationFlag(c *cli.Context, name string, to *time.Duration) error {
	if !c.IsSet(name) {
		return nil
	}
	d, err := time.ParseDuration(c.String(name))
	if err == nil {
		*to = d
		return nil
	}
	if _, numErr := strconv.ParseFloat(c.String(name), 64); numErr == nil {
		return fmt.Errorf("--%s %s needs a unit: %ss?", name, c.String(name), c.String(name))
	}
	return fmt.Errorf("--%s %q is not a duration such as 5s or 1m30s", name, c.String(name))
}
