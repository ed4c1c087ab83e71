package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/internal/readiness"
)

// readyCommand is the health check of a container. packaged is the file of the
// installed package's settings.
func readyCommand(packaged string) *cli.Command {
	return &cli.Command{
		Name: "ready", Usage: "exit with 0 if the registry of this machine, or at URL, is ready", ArgsUsage: "[URL]",
		Description: "Without a URL it asks at --listen-addr (ANKA_LISTEN_ADDR), else where the settings of the\n" +
			"installed package say (" + packaged + ").\n\nanka-registry --listen-addr :8089 ready",
		Action: func(cc *cli.Context) error {
			if cc.NArg() > 1 {
				return fmt.Errorf("%w: unexpected argument %q", errUsage, cc.Args().Get(1))
			}
			if url := cc.Args().First(); url != "" {
				if err := readiness.Ask(cc.Context, url); err != nil {
					return err
				}
				fmt.Fprintln(cc.App.Writer, "ready")
				return nil
			}
			url, from, err := ownURL(cc, packaged)
			if err != nil {
				return err
			}
			if err := readiness.Ask(cc.Context, url); err != nil {
				return fmt.Errorf("asked %s, %s: %w", url, from, err)
			}
			fmt.Fprintf(cc.App.Writer, "ready at %s\n", url)
			return nil
		},
	}
}

// ownURL is the address of the registry of this machine as it is reached here, and
// where it was found. packaged is the file of the package's settings.
func ownURL(cc *cli.Context, packaged string) (url, from string, err error) {
	c, err := load(cc)
	if err != nil {
		return "", "", err
	}
	from = "as the settings say"
	if c.server.ListenAddr == "" {
		from = "as " + packaged + " says"
		switch c, err = loadWith(cc, packaged); {
		case errors.Is(err, fs.ErrNotExist):
			return "", "", usageErrorf("which registry? --listen-addr (ANKA_LISTEN_ADDR) is not set; pass the registry's own, or a URL")
		case errors.Is(err, fs.ErrPermission):
			return "", "", usageErrorf("which registry? --listen-addr (ANKA_LISTEN_ADDR) is not set, and %s can be read with sudo only", packaged)
		case err != nil:
			return "", "", err
		}
	}
	url, err = c.localURL()
	return url, from, err
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
