package main

import (
	"fmt"
	"net"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/internal/readiness"
)

// readyCommand is the health check of a container.
func readyCommand() *cli.Command {
	return &cli.Command{
		Name: "ready", Usage: "exit with 0 if the registry of this machine, or at URL, is ready", ArgsUsage: "[URL]",
		Description: "Without a URL it asks at --listen-addr (ANKA_LISTEN_ADDR).\n\nanka-registry --listen-addr :8089 ready",
		Action: func(cc *cli.Context) error {
			if cc.NArg() > 1 {
				return fmt.Errorf("%w: unexpected argument %q", errUsage, cc.Args().Get(1))
			}
			if url := cc.Args().First(); url != "" {
				return ask(cc, url)
			}
			c, err := load(cc)
			if err != nil {
				return err
			}
			url, err := c.localURL()
			if err != nil {
				return err
			}
			return ask(cc, url)
		},
	}
}

// localURL is the registry's address as this machine reaches it.
func (c *config) localURL() (string, error) {
	host, port, err := net.SplitHostPort(c.server.ListenAddr)
	if err != nil {
		return "", fmt.Errorf("%w: ANKA_LISTEN_ADDR (--listen-addr) %q must be HOST:PORT", errUsage, c.server.ListenAddr)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return c.scheme() + "://" + net.JoinHostPort(host, port), nil
}

func (c *config) scheme() string {
	if c.HTTPS {
		return "https"
	}
	return "http"
}

func ask(cc *cli.Context, url string) error {
	if err := readiness.Ask(cc.Context, url); err != nil {
		return err
	}
	fmt.Fprintln(cc.App.Writer, "ready")
	return nil
}
