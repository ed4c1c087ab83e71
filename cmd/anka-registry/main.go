// Command anka-registry stores VM templates and serves them over the OCI
// distribution API and the template REST API.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
	_ "golang.org/x/crypto/x509roots/fallback" // the usual authorities, for images that hold no file of them

	"github.com/ankacluster/ankacluster/internal/buildinfo"
	"github.com/ankacluster/ankacluster/internal/cliargs"
	"github.com/ankacluster/ankacluster/internal/clidocs"
	"github.com/ankacluster/ankacluster/internal/settings"
	"github.com/ankacluster/ankacluster/internal/termstyle"
)

func init() { cli.HelpPrinter = clidocs.Help }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// errUsage marks a command line that cannot be understood.
var errUsage = errors.New("wrong usage")

// run is the whole program: 0 done, 1 failed, 2 used wrongly.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 2 && args[1] == "-v" { // with a level behind it, it is ANKA_V
		args = []string{args[0], "--version"}
	}
	stdout = termstyle.Guard(stdout)
	app := newApp(stdout, stderr)
	err := app.RunContext(ctx, cliargs.Order(args, app.Flags, app.Commands))
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(stderr, "anka-registry: error: %s\nhint: anka-registry --help lists the commands and settings\n", strings.ReplaceAll(strings.TrimPrefix(err.Error(), errUsage.Error()+": "), "\n", "\n  "))
		return 2
	}
	fmt.Fprintf(stderr, "anka-registry: error: %v\n", err)
	return 1
}

func newApp(stdout, stderr io.Writer) *cli.App {
	usage := func(_ *cli.Context, err error, _ bool) error { return fmt.Errorf("%w: %w", errUsage, err) }
	app := &cli.App{
		Name:            "anka-registry",
		Usage:           "store VM templates and serve them to nodes",
		UsageText:       "anka-registry [options]            serve\nanka-registry [options] COMMAND    look after the store\n\nanka-registry --base-path /var/lib/anka-registry --listen-addr :8089\n\nEvery option --some-name can be given as ANKA_SOME_NAME in the environment; the option wins.",
		Writer:          stdout,
		ErrWriter:       stderr,
		HideHelpCommand: true,
		HideVersion:     true,
		ExitErrHandler:  func(*cli.Context, error) {},
		OnUsageError:    usage,
		Flags: append(settings.Flags((&config{}).table()),
			&cli.StringFlag{Name: "env-file", Usage: "read settings from `FILE` of ANKA_NAME=value lines, readable by its owner only"},
			&cli.BoolFlag{Name: "version", Usage: "print version, commit, date and Go version", DisableDefaultText: true}),
		Commands: append(commands(),
			clidocs.CompletionCommand("anka-registry", func(err error) error { return fmt.Errorf("%w: %w", errUsage, err) }),
			clidocs.ManCommand(clidocs.Page{
				Section: 8, Version: buildinfo.Version, Date: buildinfo.Date(),
				Files: [][2]string{
					{"/etc/ankacluster/anka-registry.env", "settings of the service that a Linux package installs, as ANKA_NAME=value"},
					{"/var/lib/anka-registry", "its store"},
				},
				SeeAlso: []string{"anka-controller(8)", "ankacluster(8)"},
			})),
		Action: func(c *cli.Context) error {
			switch {
			case c.Bool("version"):
				fmt.Fprintln(c.App.Writer, buildinfo.Line("anka-registry"))
				return nil
			case c.Args().Present():
				return fmt.Errorf("%w: no command %q; %s", errUsage, c.Args().First(), settings.MeantCommand("anka-registry", c.Args().First(), c.App.Commands))
			}
			return serve(c)
		},
	}
	for _, cmd := range app.Commands {
		cmd.OnUsageError = usage
	}
	app.Commands = append(app.Commands, serviceCommand(app))
	return app
}
