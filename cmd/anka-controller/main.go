// Command anka-controller is the controller of a build cloud: it takes start
// requests from CI systems and gives tasks to the nodes. It keeps everything in
// etcd; with --standalone it brings etcd and a registry along.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
	"go.uber.org/zap"
	_ "golang.org/x/crypto/x509roots/fallback" // the usual authorities, for images that hold no file of them

	"github.com/ankacluster/ankacluster/internal/buildinfo"
	"github.com/ankacluster/ankacluster/internal/cliargs"
	"github.com/ankacluster/ankacluster/internal/clidocs"
	"github.com/ankacluster/ankacluster/internal/settings"
	"github.com/ankacluster/ankacluster/internal/termstyle"
)

const program = "anka-controller"

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a mistake in how the program was called.
type usageError struct{ error }

func init() { cli.HelpPrinter = clidocs.Help }

func main() {
	// Thousands of long polls hold buffers that live as long as they do: at Go's
	// default the heap would be twice that. GOGC says otherwise.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	// A second signal ends the process at once: whoever sends it does not want to wait.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args, os.LookupEnv, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, lookupEnv func(string) (string, bool), stdout, stderr io.Writer) int {
	stdout = termstyle.Guard(stdout)
	app := newApp(lookupEnv, stdout, stderr)
	err := app.RunContext(ctx, cliargs.Order(args, nil, app.Commands))
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		printErrors(stderr, err)
		return exitUsage
	default:
		printErrors(stderr, err)
		return exitFailed
	}
}

// printErrors prints one line for each thing that is wrong.
func printErrors(w io.Writer, err error) {
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(w, "%s: error: %s\n", program, strings.TrimSuffix(line, "\n"))
	}
}

// output is where the program prints: data to stdout, everything else to stderr.
type output struct{ stdout, stderr io.Writer }

func newApp(lookupEnv func(string) (string, bool), stdout, stderr io.Writer) *cli.App {
	out := &output{stdout, stderr}
	app := &cli.App{
		Name:            program,
		Usage:           "the controller of a build cloud",
		Writer:          stdout,
		ErrWriter:       stderr,
		HideVersion:     true,
		HideHelpCommand: true,
		ExitErrHandler:  func(*cli.Context, error) {},
		OnUsageError:    onUsageError,
		Description:     description,
		Flags: append(settings.Flags((&config{}).table()),
			&cli.StringFlag{Name: "env-file", Usage: "`FILE` of ANKA_NAME=value lines, for secrets; readable by its owner only", Category: groupStart},
			&cli.BoolFlag{Name: "version", Usage: "print version, commit, date and Go version", Category: groupStart, DisableDefaultText: true}),
		Action: func(cc *cli.Context) error {
			if cc.Bool("version") {
				fmt.Fprintln(stdout, buildinfo.Line(program))
				return nil
			}
			if cc.Args().Present() {
				return usageError{fmt.Errorf("unknown command %q; %s", cc.Args().First(), settings.MeantCommand(program, cc.Args().First(), cc.App.Commands))}
			}
			env := settings.Lookup(lookupEnv)
			if file := cc.String("env-file"); file != "" {
				var err error
				if env, err = settings.WithFile(file, (&config{}).table(), lookupEnv); err != nil {
					return usageError{err}
				}
			}
			c, err := newConfig(cc, env)
			strange, misspelt := settings.CheckNames(os.Environ(), c.table())
			if err := errors.Join(err, misspelt); err != nil {
				return usageError{err}
			}
			log := c.newLogger(stderr)
			defer func() { _ = log.Sync() }()
			if len(strange) > 0 {
				log.Warn("these variables are no settings of this program", zap.Strings("variables", strange))
			}
			return c.serve(cc.Context, log)
		},
		Commands: []*cli.Command{versionCommand(stdout), etcdCommand(lookupEnv, out), serviceCommand(lookupEnv, out), readyCommand(lookupEnv, stdout, settings.PackagedFile(program)),
			clidocs.CompletionCommand(program, func(err error) error { return usageError{err} }), clidocs.ManCommand(manPage())},
	}
	return app
}

// versionCommand is what many type in place of --version.
func versionCommand(stdout io.Writer) *cli.Command {
	return &cli.Command{Name: "version", Hidden: true, Usage: "print version, commit, date and Go version", HideHelpCommand: true, OnUsageError: onUsageError,
		Action: func(*cli.Context) error {
			_, err := fmt.Fprintln(stdout, buildinfo.Line(program))
			return err
		}}
}

func manPage() clidocs.Page {
	return clidocs.Page{
		Section: 8, Version: buildinfo.Version, Date: buildinfo.Date(),
		Files: [][2]string{
			{"/etc/ankacluster/anka-controller.env", "settings of the service that a Linux package installs, as ANKA_NAME=value"},
			{"/var/lib/anka-controller", "its data: etcd and the built-in registry with --standalone, the controller's id"},
		},
		SeeAlso: []string{"anka-registry(8)", "ankacluster(8)"},
	}
}

func onUsageError(_ *cli.Context, err error, _ bool) error { return usageError{err} }

// newConfig reads flags and environment, and reports everything that is wrong.
func newConfig(cc *cli.Context, lookupEnv func(string) (string, bool)) (*config, error) {
	c, errs := loadConfig(cc, lookupEnv)
	c.complete()
	if err := c.validate(); err != nil {
		errs = append(errs, err)
	}
	return c, errors.Join(errs...)
}

// loadConfig reads flags and environment without looking at how they fit.
func loadConfig(cc *cli.Context, lookupEnv func(string) (string, bool)) (*config, []error) {
	c := &config{}
	given, errs := settings.Load(c.table(), settings.OfCommand(cc), lookupEnv)
	c.given = given
	return c, errs
}

// only returns the settings with these names.
func only(envs ...string) []settings.Setting {
	return slices.DeleteFunc((&config{}).table(), func(s settings.Setting) bool { return !slices.Contains(envs, s.Env) })
}

const description = `A cloud on this machine, with its own etcd and registry; nodes join http://THIS-HOST:8090:
   anka-controller --standalone

A cloud on three machines that survives the loss of one; the same line on each of them:
   anka-controller --standalone --cluster 10.0.1.4,10.0.1.5,10.0.1.6

A controller with etcd servers and a registry of your own; start as many as you like:
   anka-controller --etcd-endpoints http://10.0.1.4:2379,http://10.0.1.5:2379 --anka-registry http://10.0.1.9:8089

Every flag --some-name can be given as ANKA_SOME_NAME in the environment; the flag wins.
Secrets are read from the environment only: ANKA_ETCD_PASSWORD.

This version does not ask who calls: everybody who reaches the controller or the
registry may start and end VMs, and push and delete templates.`
