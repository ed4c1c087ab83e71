package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/agent/state"
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
		&cli.BoolFlag{Name: "force-no-sudo", Aliases: []string{"f"}, Usage: "run as this user instead of root; the state directory is then below your home", DisableDefaultText: true},
	}
}

// writableStateDir finds the state directory, and refuses to act for the system's agent as
// anybody but root.
func writableStateDir(c *cli.Context) (state.Dir, error) {
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
func stateDir(c *cli.Context) (state.Dir, error) {
	if d := c.String("state-dir"); d != "" {
		abs, err := filepath.Abs(d)
		return state.Dir(abs), err
	}
	if !c.Bool("force-no-sudo") || os.Geteuid() == 0 {
		return state.Dir(systemStateDir()), nil
	}
	return userStateDir()
}

func userStateDir() (state.Dir, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", hintf(err, "name a directory with --state-dir")
	}
	if runtime.GOOS == "darwin" {
		return state.Dir(filepath.Join(home, "Library", "Application Support", "ankacluster")), nil
	}
	return state.Dir(filepath.Join(home, ".local", "state", "ankacluster")), nil
}

// joinedDir finds the state directory for a command about a node that has joined.
// Without flags it is the system's, unless this user may not read that and runs an
// agent of their own.
func joinedDir(c *cli.Context) (state.Dir, error) {
	dir, err := stateDir(c)
	if err != nil || os.Geteuid() == 0 || c.String("state-dir") != "" || c.Bool("force-no-sudo") {
		return dir, err
	}
	if _, err := dir.Config(); err == nil {
		return dir, nil
	}
	own, ok := ownJoined()
	if !ok {
		return dir, nil
	}
	fmt.Fprintf(c.App.ErrWriter, "about your own agent, in %s\n", own)
	return own, nil
}

// ownJoined is the state directory below this user's home, and whether it has
// joined a cloud.
func ownJoined() (state.Dir, bool) {
	own, err := userStateDir()
	if err == nil {
		_, err = own.Config()
	}
	return own, err == nil
}

// nextCommand is what to type next about the agent of dir, with the flags that find it.
func nextCommand(c *cli.Context, dir state.Dir, name string) string {
	words := []string{"ankacluster", name}
	if os.Geteuid() == 0 && os.Getenv("SUDO_USER") != "" {
		words = append([]string{"sudo"}, words...)
	}
	if named := c.String("state-dir"); named != "" && named != os.Getenv(stateDirEnv) {
		words = append(words, "--state-dir", quoted(string(dir)))
	}
	if c.Bool("force-no-sudo") && os.Geteuid() != 0 && (name == "join" || name == "disjoin" || c.String("state-dir") == "") {
		words = append(words, "-f")
	}
	return strings.Join(words, " ")
}

// quoted is a word for a shell.
func quoted(s string) string {
	if strings.Trim(s, shellPlain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// shellPlain are the characters that mean themselves in every shell.
const shellPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@,+="

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
