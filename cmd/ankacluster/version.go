package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/internal/buildinfo"
	"github.com/ankacluster/ankacluster/internal/clidocs"
)

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print version, commit, date and Go version",
		Action: func(c *cli.Context) error {
			_, err := fmt.Fprintln(c.App.Writer, buildinfo.Line("ankacluster"))
			return err
		},
	}
}

func completionCommand() *cli.Command {
	return clidocs.CompletionCommand("ankacluster", func(err error) error { return usageError{err} })
}

func manCommand() *cli.Command {
	return clidocs.ManCommand(clidocs.Page{
		Section: 8, Version: buildinfo.Version, Date: buildinfo.Date(),
		Files: [][2]string{
			{"/var/lib/ankacluster", "what the agent keeps, on Linux"},
			{"/etc/systemd/system/ankacluster.service, /Library/LaunchDaemons/ankacluster.plist", "the service that join makes"},
		},
		SeeAlso: []string{"anka-controller(8)", "anka-registry(8)"},
	})
}
