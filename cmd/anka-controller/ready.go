package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/internal/readiness"
	"github.com/ankacluster/ankacluster/internal/settings"
)

// readyCommand is the health check of a container that holds nothing but this
// program: no shell, no curl.
func readyCommand(env func(string) (string, bool), stdout io.Writer) *cli.Command {
	return &cli.Command{
		Name: "ready", Usage: "exit with 0 if the controller of this machine, or at URL, is ready", HideHelpCommand: true, OnUsageError: onUsageError,
		ArgsUsage:   "[URL]",
		Description: "Without a URL it takes the settings of the controller that it asks. Example: anka-controller ready --listen-addr :8090",
		Flags:       settings.Flags(only("ANKA_LISTEN_ADDR", "ANKA_STANDALONE", "ANKA_USE_HTTPS")),
		Action: func(cc *cli.Context) error {
			if cc.NArg() > 1 {
				return usageError{fmt.Errorf("unexpected argument %q", cc.Args().Get(1))}
			}
			if url := cc.Args().First(); url != "" {
				return ask(cc, url, stdout)
			}
			c, errs := loadConfig(cc, env)
			if err := errors.Join(errs...); err != nil {
				return usageError{err}
			}
			c.complete()
			err := ask(cc, c.localURL(), stdout)
			if err != nil && !c.isGiven("ANKA_LISTEN_ADDR") && !c.Standalone {
				err = fmt.Errorf("%w; pass the controller's own --standalone or --listen-addr", err)
			}
			return err
		},
	}
}

func ask(cc *cli.Context, url string, stdout io.Writer) error {
	if err := readiness.Ask(cc.Context, url); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "ready")
	return nil
}

// localURL is the controller's address as this machine reaches it.
func (c *config) localURL() string {
	return c.advertised("127.0.0.1", c.ListenAddr)
}
