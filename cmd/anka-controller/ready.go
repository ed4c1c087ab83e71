package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/internal/readiness"
	"github.com/ankacluster/ankacluster/internal/settings"
)

// readyCommand is the health check of a container that holds nothing but this
// program: no shell, no curl. packaged is the file of the installed package's settings.
func readyCommand(env func(string) (string, bool), stdout io.Writer, packaged string) *cli.Command {
	return &cli.Command{
		Name: "ready", Usage: "exit with 0 if the controller of this machine, or at URL, is ready", HideHelpCommand: true, OnUsageError: onUsageError,
		ArgsUsage: "[URL]",
		Description: "Without a URL it takes the settings that are given here, else those of the installed\n" +
			"package (" + packaged + "), else the address of the controller\n" +
			"that last started in the data directory, and says which it asked.\n\nExample: anka-controller ready --listen-addr :8090",
		Flags: settings.Flags(only("ANKA_LISTEN_ADDR", "ANKA_STANDALONE", "ANKA_USE_HTTPS", "ANKA_DATA_DIR")),
		Action: func(cc *cli.Context) error {
			if cc.NArg() > 1 {
				return usageError{fmt.Errorf("unexpected argument %q", cc.Args().Get(1))}
			}
			if url := cc.Args().First(); url != "" {
				if err := readiness.Ask(cc.Context, url); err != nil {
					return err
				}
				fmt.Fprintln(stdout, "ready")
				return nil
			}
			url, from, err := ownURL(cc, env, packaged)
			if err != nil {
				return usageError{err}
			}
			if err := readiness.Ask(cc.Context, url); err != nil {
				return fmt.Errorf("asked %s, %s: %w", url, from, err)
			}
			fmt.Fprintf(stdout, "ready at %s\n", url)
			return nil
		},
	}
}

// ownURL is the address of the controller of this machine as it is reached here,
// and where it was found. packaged is the file of the package's settings.
func ownURL(cc *cli.Context, env settings.Lookup, packaged string) (url, from string, err error) {
	c, errs := loadConfig(cc, env)
	if err := errors.Join(errs...); err != nil {
		return "", "", err
	}
	c.complete()
	if c.isGiven("ANKA_LISTEN_ADDR") || c.Standalone {
		return c.localURL(), "as the settings say", nil
	}
	withFile, err := settings.WithFile(packaged, c.table(), env)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, fs.ErrPermission):
		return c.localURL(), "which is the default; " + packaged + " can be read with sudo", nil
	case err != nil:
		return "", "", err
	default:
		c, errs := loadConfig(cc, withFile)
		if err := errors.Join(errs...); err != nil {
			return "", "", fmt.Errorf("%s: %w", packaged, err)
		}
		c.complete()
		return c.localURL(), "as " + packaged + " says", nil
	}
	file := c.addressFile()
	if text, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(text), "http") {
		return strings.TrimSpace(string(text)), "as " + file + " says", nil
	}
	return c.localURL(), "which is the default; pass the controller's own --standalone, --listen-addr or --data-dir", nil
}

// addressFile holds the address of the controller that last started with this data
// directory.
func (c *config) addressFile() string { return filepath.Join(c.DataDir, "address") }

// noteAddress writes it. Without it `ready` has to be told: no reason not to serve.
func (c *config) noteAddress() { _ = os.WriteFile(c.addressFile(), []byte(c.localURL()+"\n"), 0o644) }

// localURL is the controller's address as this machine reaches it.
func (c *config) localURL() string {
	return c.advertised("127.0.0.1", c.ListenAddr)
}
