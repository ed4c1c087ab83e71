// Package servicecmd is the command that runs a server as a service of launchd or
// systemd: install, uninstall and status, the same for every server.
package servicecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/internal/atomicfile"
	"github.com/ankacluster/ankacluster/internal/readiness"
	"github.com/ankacluster/ankacluster/internal/selfpath"
	"github.com/ankacluster/ankacluster/internal/settings"
	"github.com/ankacluster/ankacluster/launchd"
)

// readyTimeout is how long an installed service may take to be ready.
const readyTimeout = 30 * time.Second

// Program is a server that can be a service.
type Program struct {
	Name    string // anka-controller
	Kind    string // what it is, in a word: controller
	Example string // a command line that installs it
	Table   []settings.Setting
	Stdout  io.Writer
	// Usage marks an error as a mistake in how the program was called.
	Usage func(error) error
	// Plan reads and checks the settings of an installation.
	Plan func(*cli.Context) (Plan, error)
}

// Plan is what is to be installed.
type Plan struct {
	// Given are the settings of the service, by their variables.
	Given map[string]settings.Source
	// More are arguments besides those.
	More []string
	// Dir takes the file of the secrets, where there are some.
	Dir string
	// Writable are the directories that the server writes; it is kept from all others.
	Writable []string
	// URL is where this machine asks whether the server is ready.
	URL string
	// Grace is how long the server may take to end.
	Grace time.Duration
	// Ready is the last line when all is well. Waits, if set, is what is told, and
	// is no failure, when it is not ready in time.
	Ready, Waits string
}

// Command returns the command.
func Command(p Program) *cli.Command {
	name := &cli.StringFlag{Name: "name", Value: p.Name, Usage: "`NAME` of the service, for several on one machine"}
	onUsage := func(_ *cli.Context, err error, _ bool) error { return p.Usage(err) }
	withService := func(do func(*cli.Context, *launchd.Service) error) cli.ActionFunc {
		return func(cc *cli.Context) error {
			if cc.Args().Present() {
				return p.Usage(fmt.Errorf("unexpected argument %q", cc.Args().First()))
			}
			svc, err := p.service(cc.String("name"), nil, Plan{})
			if err != nil {
				return err
			}
			return do(cc, svc)
		}
	}
	return &cli.Command{
		Name: "service", Usage: "run the " + p.Kind + " as a service of this machine: launchd or systemd", HideHelpCommand: true, OnUsageError: onUsage,
		Action: func(cc *cli.Context) error {
			if cc.Args().Present() {
				return p.Usage(fmt.Errorf("unknown command %q; see %s service --help", cc.Args().First(), p.Name))
			}
			return cli.ShowSubcommandHelp(cc)
		},
		Subcommands: []*cli.Command{
			{
				Name: "install", Usage: "install and start it with the settings given here; again with other settings to change them", HideHelpCommand: true, OnUsageError: onUsage,
				Description: "Takes every option of " + p.Name + " itself. Secrets of the environment go into a file that\nonly the service can read.\n\nExample: " + p.Example,
				Flags:       append(settings.Flags(p.Table), name),
				Action:      p.install,
			},
			{
				Name: "uninstall", Usage: "stop and remove it; data stay", Flags: []cli.Flag{name}, HideHelpCommand: true, OnUsageError: onUsage,
				Action: withService(func(cc *cli.Context, svc *launchd.Service) error {
					if err := svc.Uninstall(); err != nil {
						return err
					}
					fmt.Fprintf(p.Stdout, "service %s is removed; its data stay where they are\n", cc.String("name"))
					return nil
				}),
			},
			{
				Name: "status", Usage: "what the service manager says; exit code 1 unless it runs", Flags: []cli.Flag{name}, HideHelpCommand: true, OnUsageError: onUsage,
				Action: withService(p.status),
			},
		},
	}
}

func (p Program) status(cc *cli.Context, svc *launchd.Service) error {
	st, err := svc.Status()
	if err != nil {
		return err
	}
	fmt.Fprintf(p.Stdout, "service %s: %s", cc.String("name"), st.State)
	if st.PID != 0 {
		fmt.Fprintf(p.Stdout, ", process %d", st.PID)
	}
	if st.LastExit != "" {
		fmt.Fprintf(p.Stdout, ", its last process ended with %s", st.LastExit)
	}
	fmt.Fprintf(p.Stdout, ", restarts after failures: %d, starts at boot: %t\n", st.Restarts, st.Enabled)
	if st.State != launchd.Running {
		return fmt.Errorf("service %s is %s", cc.String("name"), st.State)
	}
	return nil
}

// service describes the service. It ends later than the server's grace, or the
// service manager would cut requests.
func (p Program) service(name string, arguments []string, plan Plan) (*launchd.Service, error) {
	self, err := selfpath.Program()
	if err != nil {
		return nil, err
	}
	stop := launchd.DefaultStopTimeout
	if grace := plan.Grace; grace > 0 {
		stop = grace.Truncate(time.Second) + 20*time.Second
	}
	var writable []string
	for _, dir := range plan.Writable {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		writable = append(writable, abs)
	}
	return launchd.New(launchd.Config{
		Name: name, Description: p.Kind + " of the build cloud",
		Executable: self, Arguments: arguments, StopTimeout: stop, Writable: writable,
	})
}

func (p Program) install(cc *cli.Context) error {
	if cc.Args().Present() {
		return p.Usage(fmt.Errorf("unexpected argument %q", cc.Args().First()))
	}
	plan, err := p.Plan(cc)
	if err != nil {
		return err
	}
	arguments, secrets, err := plan.Arguments(p.Table)
	if err != nil {
		return p.Usage(err)
	}
	svc, err := p.service(cc.String("name"), arguments, plan)
	if err != nil {
		return err
	}
	if err := plan.WriteSecrets(secrets); err != nil {
		return err
	}
	if err := svc.Install(); err != nil {
		return err
	}
	fmt.Fprintf(p.Stdout, "service %s installed: %s\n", cc.String("name"), svc.DefinitionPath())
	if err := svc.Restart(); errors.Is(err, launchd.ErrDisabled) {
		return fmt.Errorf("%w: switch it on with sudo launchctl enable system/%s, or in System Settings, General, Login Items & Extensions; then install it again", err, cc.String("name"))
	} else if err != nil {
		return err
	}
	fmt.Fprintf(p.Stdout, "waiting for %s/readyz\n", plan.URL)
	return p.awaitReady(cc.Context, svc, plan)
}

// Arguments writes the given settings as the service's command line; secrets stay
// out of it.
func (plan Plan) Arguments(table []settings.Setting) (args, secrets []string, err error) {
	for _, s := range table {
		src, ok := plan.Given[s.Env]
		switch {
		case !ok:
		case strings.ContainsAny(src.Value, "\n\r\x00"):
			err = errors.Join(err, fmt.Errorf("%s: holds a line break", src.Name))
		case s.Secret:
			secrets = append(secrets, s.Env+"="+src.Value)
		case s.IsPath:
			abs, absErr := filepath.Abs(src.Value)
			err = errors.Join(err, absErr)
			args = append(args, "--"+s.Flag()+"="+abs)
		default:
			args = append(args, "--"+s.Flag()+"="+src.Value)
		}
	}
	args = append(args, plan.More...)
	if len(secrets) > 0 {
		file, absErr := filepath.Abs(plan.SecretsFile())
		err = errors.Join(err, absErr)
		args = append(args, "--env-file="+file)
	}
	return args, secrets, err
}

// SecretsFile is where the service reads its secrets.
func (plan Plan) SecretsFile() string { return filepath.Join(plan.Dir, "secrets.env") }

// WriteSecrets writes that file, if there is anything for it.
func (plan Plan) WriteSecrets(secrets []string) error {
	if len(secrets) == 0 {
		return nil
	}
	if err := os.MkdirAll(plan.Dir, 0o700); err != nil {
		return fmt.Errorf("directory of the secrets: %w", err)
	}
	file := plan.SecretsFile()
	err := atomicfile.Options{Temp: filepath.Base(file) + ".new"}.Write(file, []byte(strings.Join(secrets, "\n")+"\n"))
	if err != nil {
		return fmt.Errorf("directory of the secrets: %w", err)
	}
	return nil
}

// awaitReady tells how the start went.
func (p Program) awaitReady(ctx context.Context, svc *launchd.Service, plan Plan) error {
	deadline := time.Now().Add(readyTimeout)
	for {
		err := readiness.Ask(ctx, plan.URL)
		if err == nil {
			fmt.Fprintln(p.Stdout, plan.Ready)
			return nil
		}
		st, statusErr := svc.Status()
		if statusErr == nil && (st.State == launchd.Failed || st.Restarts > 0) {
			return fmt.Errorf("the service does not stay up (%s, %d restarts): see its log, e.g. journalctl -u NAME", st.State, st.Restarts)
		}
		if time.Now().After(deadline) {
			if plan.Waits != "" {
				fmt.Fprintln(p.Stdout, plan.Waits)
				return nil
			}
			return fmt.Errorf("the service runs but is not ready after %s: %w", readyTimeout, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
