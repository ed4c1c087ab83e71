// Command ankacluster is what runs on a node: it joins a Mac to a build cloud,
// runs the node agent, and shows and drills what the agent's balancer does.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/internal/buildinfo"
	"github.com/ankacluster/ankacluster/internal/settings"
)

// Exit codes of every command.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// commands is the table of sub-commands, in the order of the help.
func commands() []*cli.Command {
	return []*cli.Command{
		joinCommand(),
		disjoinCommand(),
		statusCommand(),
		endpointsCommand(),
		logsCommand(),
		templateCommand(),
		doctorCommand(),
		proxyCommand(),
		drillCommand(),
		versionCommand(),
		completionCommand(),
		manCommand(),
		runCommand(),
		upgradeGuardCommand(),
		drillFakeCommand(),
	}
}

// usageError is a mistake in how the command was called: exit code 2.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	// net/http has remarks of its own, for one when a server speaks before it is
	// asked: what people read comes from complain alone. The agent logs them.
	log.SetOutput(io.Discard)
	settings.UnsetEmpty()
	app := &cli.App{
		Name:        "ankacluster",
		Usage:       "join this Mac to a highly available build cloud and run its node agent",
		HideVersion: true, // cli's own prints the version only
		Description: `A first look, on a Mac with anka installed:

   sudo ankacluster join http://10.0.1.4:8090,http://10.0.1.5:8090
   sudo ankacluster status         what the agent does, and which servers it uses
   sudo ankacluster endpoints      how well each server is, and why
   sudo ankacluster doctor         when something is wrong: what, and what to do
   sudo ankacluster disjoin        leave, and clean up

Exit codes: 0 done, 1 failed, 2 used wrongly.`,
		HideHelpCommand: true,
		Writer:          stdout,
		ErrWriter:       stderr,
		Commands:        commands(),
		Flags:           []cli.Flag{&cli.BoolFlag{Name: "version", Usage: "print version, commit, date and Go version", DisableDefaultText: true}},
		ExitErrHandler:  func(*cli.Context, error) {}, // run alone decides the exit code
		OnUsageError:    onUsageError,
		Action: func(c *cli.Context) error {
			if c.Bool("version") {
				_, err := fmt.Fprintln(stdout, buildinfo.Line("ankacluster"))
				return err
			}
			if name := c.Args().First(); name != "" {
				return usagef("unknown command %q; run 'ankacluster --help' for the list", name)
			}
			return cli.ShowAppHelp(c)
		},
	}
	for _, c := range app.Commands {
		c.OnUsageError = onUsageError
		for _, sub := range c.Subcommands {
			sub.OnUsageError = onUsageError
		}
	}
	err := app.RunContext(ctx, flagsFirst(args, app.Commands))
	if err == nil {
		return exitDone
	}
	complain(stderr, err)
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

func onUsageError(c *cli.Context, err error, _ bool) error {
	name := c.App.Name
	if c.Command != nil && c.Command.Name != "" {
		name = c.Command.HelpName
	}
	return usageError{fmt.Errorf("%w; run '%s --help'", plainly(err), name)}
}

// badSwitch is package flag's word on a switch with a value.
var badSwitch = regexp.MustCompile(`^invalid boolean value (".*") for -(.*): parse error$`)

// plainly names the flag as the help does, and what it takes.
func plainly(err error) error {
	if m := badSwitch.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Errorf("--%s=%s must be true or false, or stand without a value", m[2], strings.Trim(m[1], `"`))
	}
	return err
}
