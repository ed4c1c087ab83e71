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

	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/internal/buildinfo"
	"github.com/ankacluster/ankacluster/internal/cliargs"
	"github.com/ankacluster/ankacluster/internal/clidocs"
	"github.com/ankacluster/ankacluster/internal/selfpath"
	"github.com/ankacluster/ankacluster/internal/settings"
	"github.com/ankacluster/ankacluster/internal/spelling"
	"github.com/ankacluster/ankacluster/internal/termstyle"
)

// Exit codes of every command.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func init() { cli.HelpPrinter = clidocs.Help }

func main() {
	if len(os.Args) > 1 && os.Args[1] == command.BecomeUser { // no command of people's
		os.Exit(command.Become(os.Args[2:]))
	}
	_, _ = selfpath.Program() // before an upgrade replaces it; the error comes where it is needed
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
		vmCommand(),
		nodeCommand(),
		groupCommand(),
		templateCommand(),
		contextCommand(),
		doctorCommand(),
		proxyCommand(),
		drillCommand(),
		macReportCommand(),
		versionCommand(),
		helpCommand(),
		completionCommand(),
		manCommand(),
		runCommand(),
		upgradeGuardCommand(),
		reportServiceCommand(),
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
	// asked: what people read comes from printError alone. The agent logs them.
	log.SetOutput(io.Discard)
	settings.UnsetEmpty()
	stdout, stderr = termstyle.Guard(stdout), termstyle.Guard(stderr)
	app := newApp(stdout, stderr)
	err := app.RunContext(ctx, cliargs.Order(args, app.Flags, app.Commands))
	if err == nil {
		return exitDone
	}
	printError(stderr, err)
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

func newApp(stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:        "ankacluster",
		Usage:       "join this Mac to a highly available build cloud and run its node agent",
		HideVersion: true, // cli's own prints the version only
		Description: `A first look, on a Mac with anka installed:

   sudo ankacluster join http://10.0.1.4:8090,http://10.0.1.5:8090
   sudo ankacluster status      what the agent does, which servers it uses
   sudo ankacluster endpoints   how well each server is, and why
   sudo ankacluster doctor      when something is wrong: what, what to do
   sudo ankacluster disjoin     leave, and clean up

Exit codes: 0 done, 1 failed, 2 used wrongly.`,
		HideHelpCommand: true,
		Writer:          stdout,
		ErrWriter:       stderr,
		Commands:        commands(),
		Flags:           []cli.Flag{&cli.BoolFlag{Name: "version", Usage: "print version, commit, date and Go version", DisableDefaultText: true}, cli.HelpFlag},
		ExitErrHandler:  func(*cli.Context, error) {}, // run alone decides the exit code
		OnUsageError:    onUsageError,
		Action: func(c *cli.Context) error {
			if c.Bool("version") {
				_, err := fmt.Fprintln(stdout, buildinfo.Line("ankacluster"))
				return err
			}
			if name := c.Args().First(); name != "" {
				return unknownCommand("ankacluster", name, c.App.Commands)
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
	return app
}

// unknownCommand names the command that was perhaps meant.
func unknownCommand(of, name string, commands []*cli.Command) error {
	near := spelling.Nearest(name, func(yield func(string) bool) {
		for _, c := range commands {
			if !c.Hidden && !yield(c.Name) {
				return
			}
		}
	})
	shown := strings.TrimPrefix(of+" "+name, "ankacluster ")
	if near != "" {
		return hintf(usagef("unknown command %q", shown), "did you mean %s %s?", of, near)
	}
	return usagef("unknown command %q; run '%s --help' for the list", shown, of)
}

// helpCommand is the word that many type first.
func helpCommand() *cli.Command {
	return &cli.Command{
		Name: "help", Hidden: true, Usage: "show the help of a command", ArgsUsage: "[COMMAND]",
		Action: func(c *cli.Context) error {
			name := c.Args().First()
			if name == "" {
				return cli.ShowAppHelp(c)
			}
			if c.App.Command(name) == nil {
				return unknownCommand("ankacluster", name, c.App.Commands)
			}
			return cli.ShowCommandHelp(c.Lineage()[1], name)
		},
	}
}

func onUsageError(c *cli.Context, err error, _ bool) error {
	name := c.App.Name
	if c.Command != nil && c.Command.Name != "" {
		name = c.Command.HelpName
	}
	if m := unknownFlag.FindStringSubmatch(err.Error()); m != nil && c.Command != nil {
		err = fmt.Errorf("unknown flag --%s", m[1])
		near := spelling.Nearest(m[1], func(yield func(string) bool) {
			for _, f := range c.Command.Flags {
				if !yield(f.Names()[0]) {
					return
				}
			}
		})
		if near != "" {
			return hintf(usageError{err}, "did you mean --%s?", near)
		}
	}
	return usageError{fmt.Errorf("%w; run '%s --help'", plainly(err), name)}
}

// unknownFlag is package flag's word on a flag that the command does not have.
var unknownFlag = regexp.MustCompile(`^flag provided but not defined: -+([a-z0-9-]+)$`)

// badSwitch is package flag's word on a switch with a value.
var badSwitch = regexp.MustCompile(`^invalid boolean value (".*") for -(.*): parse error$`)

// plainly names the flag as the help does, and what it takes.
func plainly(err error) error {
	if m := badSwitch.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Errorf("--%s=%s must be true or false, or stand without a value", m[2], strings.Trim(m[1], `"`))
	}
	return err
}
