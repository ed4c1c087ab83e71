package main

import (
	"fmt"
	"net"
	"os"
	"runtime"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/cmd/internal/servicecmd"
	"github.com/ankacluster/ankacluster/internal/settings"
)

// What a service has when nothing else is said: it starts in no directory of its
// own, so that the current one is none for its store.
const serviceListenAddr = ":8089"

func serviceBasePath() string {
	if runtime.GOOS == "darwin" {
		return "/Library/Application Support/anka-registry"
	}
	return "/var/lib/anka-registry"
}

func serviceCommand(app *cli.App) *cli.Command {
	usage := func(err error) error { return fmt.Errorf("%w: %w", errUsage, err) }
	return servicecmd.Command(servicecmd.Program{
		Name: "anka-registry", Kind: "registry", Example: "sudo anka-registry service install --base-path /srv/templates\n(without options it listens on " + serviceListenAddr + " and keeps everything below " + serviceBasePath() + ")",
		Table: (&config{}).table(), Stdout: app.Writer, Usage: usage,
		Plan: func(cc *cli.Context) (servicecmd.Plan, error) {
			c, err := load(cc)
			if err != nil {
				return servicecmd.Plan{}, err
			}
			c.setDefault("ANKA_LISTEN_ADDR", &c.server.ListenAddr, serviceListenAddr)
			c.setDefault("ANKA_BASE_PATH", &c.server.Root, serviceBasePath())
			if err := c.complete(); err != nil {
				return servicecmd.Plan{}, err
			}
			if err := os.MkdirAll(c.server.Root, 0o755); err != nil {
				return servicecmd.Plan{}, fmt.Errorf("%s: %w", c.name("ANKA_BASE_PATH"), err)
			}
			url, err := c.localURL()
			if err != nil {
				return servicecmd.Plan{}, err
			}
			_, port, _ := net.SplitHostPort(c.server.ListenAddr)
			return servicecmd.Plan{
				Given: c.given, Dir: c.server.Root, Writable: []string{c.server.Root}, URL: url, Grace: c.server.GracefulShutdownTimeout,
				Ready: fmt.Sprintf("ready; controllers use it with --anka-registry %s://THIS-HOST:%s", c.scheme(), port),
			}, nil
		},
	})
}

// setDefault gives a setting that was not given a value, as if it had been.
func (c *config) setDefault(env string, field *string, value string) {
	if _, ok := c.given[env]; !ok {
		*field = value
		c.given[env] = settings.Source{Name: env, Value: value}
	}
}
