package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/internal/readiness"
	"github.com/ankacluster/ankacluster/internal/selfpath"
	"github.com/ankacluster/ankacluster/internal/settings"
	"github.com/ankacluster/ankacluster/launchd"
)

// readyTimeout is how long an installed service may take to be ready. A host of
// a new cluster waits for the others, which is told and is no failure.
const readyTimeout = 30 * time.Second

func serviceCommand(env func(string) (string, bool), out *output) *cli.Command {
	name := &cli.StringFlag{Name: "name", Value: program, Usage: "`NAME` of the service, for several on one machine"}
	withService := func(do func(*cli.Context, *launchd.Service) error) cli.ActionFunc {
		return func(cc *cli.Context) error {
			if cc.Args().Present() {
				return usageError{fmt.Errorf("unexpected argument %q", cc.Args().First())}
			}
			svc, err := newService(cc.String("name"), nil)
			if err != nil {
				return err
			}
			return do(cc, svc)
		}
	}
	return &cli.Command{
		Name: "service", Usage: "run the controller as a service of this machine: launchd or systemd", HideHelpCommand: true, OnUsageError: onUsageError,
		Action: func(cc *cli.Context) error {
			if cc.Args().Present() {
				return usageError{fmt.Errorf("unknown command %q; see %s service --help", cc.Args().First(), program)}
			}
			return cli.ShowSubcommandHelp(cc)
		},
		Subcommands: []*cli.Command{
			{
				Name: "install", Usage: "install and start it with the settings given here; again with other settings to change them", HideHelpCommand: true, OnUsageError: onUsageError,
				Description: "Takes every option of anka-controller itself. Secrets of the environment go into a file that\nonly the service can read.\n\nExample: sudo anka-controller service install --standalone",
				Flags:       append(settings.Flags((&config{}).table()), name),
				Action:      func(cc *cli.Context) error { return installService(cc, env, out) },
			},
			{
				Name: "uninstall", Usage: "stop and remove it; data stay", Flags: []cli.Flag{name}, HideHelpCommand: true, OnUsageError: onUsageError,
				Action: withService(func(cc *cli.Context, svc *launchd.Service) error {
					if err := svc.Uninstall(); err != nil {
						return err
					}
					fmt.Fprintf(out.stdout, "service %s is removed; its data stay where they are\n", cc.String("name"))
					return nil
				}),
			},
			{
				Name: "status", Usage: "what the service manager says; exit code 1 unless it runs", Flags: []cli.Flag{name}, HideHelpCommand: true, OnUsageError: onUsageError,
				Action: withService(func(cc *cli.Context, svc *launchd.Service) error {
					st, err := svc.Status()
					if err != nil {
						return err
					}
					fmt.Fprintf(out.stdout, "service %s: %s", cc.String("name"), st.State)
					if st.PID != 0 {
						fmt.Fprintf(out.stdout, ", process %d", st.PID)
					}
					fmt.Fprintf(out.stdout, ", restarts after failures: %d, starts at boot: %t\n", st.Restarts, st.Enabled)
					if st.State != launchd.Running {
						return fmt.Errorf("service %s is %s", cc.String("name"), st.State)
					}
					return nil
				}),
			},
		},
	}
}

func newService(name string, arguments []string) (*launchd.Service, error) {
	self, err := selfpath.Program()
	if err != nil {
		return nil, err
	}
	return launchd.New(launchd.Config{
		Name: name, Description: "controller of the build cloud",
		Executable: self, Arguments: arguments,
		StopTimeout: stopTimeout(arguments),
	})
}

// stopTimeout is longer than the grace that requests are given, or the service
// manager would cut them.
func stopTimeout(arguments []string) time.Duration {
	for _, a := range arguments {
		if v, ok := strings.CutPrefix(a, "--graceful-shutdown-timeout="); ok {
			if d, err := time.ParseDuration(v); err == nil {
				return d.Truncate(time.Second) + 20*time.Second
			}
		}
	}
	return launchd.DefaultStopTimeout
}

func installService(cc *cli.Context, env func(string) (string, bool), out *output) error {
	if cc.Args().Present() {
		return usageError{fmt.Errorf("unexpected argument %q", cc.Args().First())}
	}
	c, err := newConfig(cc, env)
	if err != nil {
		return usageError{err}
	}
	arguments, secrets, err := c.arguments()
	if err != nil {
		return usageError{err}
	}
	if runtime.GOOS == "darwin" {
		arguments = c.withLogDir(arguments)
	}
	svc, err := newService(cc.String("name"), arguments)
	if err != nil {
		return err
	}
	if err := c.writeSecrets(secrets); err != nil {
		return err
	}
	if err := svc.Install(); err != nil {
		return err
	}
	fmt.Fprintf(out.stdout, "service %s installed: %s\n", cc.String("name"), launchd.DefinitionPath(cc.String("name")))
	if err := svc.Restart(); err != nil {
		return err
	}
	fmt.Fprintf(out.stdout, "waiting for %s/readyz\n", c.localURL())
	return c.awaitReady(cc.Context, svc, out)
}

// arguments writes the given settings as the service's command line; secrets
// stay out of it.
func (c *config) arguments() (args, secrets []string, err error) {
	for _, s := range c.table() {
		src, ok := c.given[s.Env]
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
	if len(secrets) > 0 {
		file, absErr := filepath.Abs(c.secretsFile())
		err = errors.Join(err, absErr)
		args = append(args, "--env-file="+file)
	}
	return args, secrets, err
}

// withLogDir adds a directory for logs where none is given: launchd puts what a
// service writes to stderr into a file without a bound.
func (c *config) withLogDir(args []string) []string {
	if c.LogDir != "" {
		return args
	}
	return append(args, "--log-dir="+filepath.Join(c.DataDir, "logs"))
}

func (c *config) secretsFile() string { return filepath.Join(c.DataDir, "secrets.env") }

func (c *config) writeSecrets(secrets []string) error {
	if len(secrets) == 0 {
		return nil
	}
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	tmp := c.secretsFile() + ".new"
	if err := os.WriteFile(tmp, []byte(strings.Join(secrets, "\n")+"\n"), 0o600); err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	return os.Rename(tmp, c.secretsFile())
}

// awaitReady tells how the start went.
func (c *config) awaitReady(ctx context.Context, svc *launchd.Service, out *output) error {
	deadline := time.Now().Add(readyTimeout)
	for {
		err := readiness.Ask(ctx, c.localURL())
		if err == nil {
			fmt.Fprintf(out.stdout, "ready; on each Mac: sudo ankacluster join %s\n", c.AdvertiseURL)
			return nil
		}
		st, statusErr := svc.Status()
		if statusErr == nil && (st.State == launchd.Failed || st.Restarts > 0) {
			return fmt.Errorf("the service does not stay up (%s, %d restarts): see its log, e.g. journalctl -u NAME", st.State, st.Restarts)
		}
		if time.Now().After(deadline) {
			if c.Cluster != "" {
				fmt.Fprintf(out.stdout, "the service runs and is not ready yet: it waits for the other hosts of --cluster %s; see anka-controller etcd status\n", c.Cluster)
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
