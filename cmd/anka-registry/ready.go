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
			host, port, err := net.SplitHostPort(c.server.ListenAddr)
			if err != nil {
				return fmt.Errorf("%w: ANKA_LISTEN_ADDR (--listen-addr) %q must be HOST:PORT", errUsage, c.server.ListenAddr)
			}
			if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
				host = "127.0.0.1"
			}
			scheme := "http"
			if c.HTTPS {
				scheme = "https"
			}
			return ask(cc, scheme+"://"+net.JoinHostPort(host, port))
		},
	}
}

func ask(cc *cli.Context, url string) error {
	if err := readiness.Ask(cc.Context, url); err != nil {
		return err
	}
	fmt.Fprintln(cc.App.Writer, "ready")
	return nil
}
