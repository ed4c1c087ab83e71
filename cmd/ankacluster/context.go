package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/cmd/internal/clouds"
)

// contextCommand remembers clouds by name, for the commands of people.
func contextCommand() *cli.Command {
	return family("context", "remember clouds by name: add, list, use, remove",
		`ankacluster context COMMAND ...

A context is a name for the controllers of a cloud. The commands vm, node and group
are about the one in use, or that of --context NAME.

Example: ankacluster context add lab --controllers http://10.0.1.4:8090,http://10.0.1.5:8090`,
		&cli.Command{Name: "add", Usage: "remember a cloud; the first one is in use at once",
			UsageText: `ankacluster context add NAME --controllers URL,URL,… [--cacert FILE] [--use]

What has that name already is replaced.

Example: ankacluster context add lab --controllers http://10.0.1.4:8090,http://10.0.1.5:8090`,
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "controllers", EnvVars: []string{"ANKA_CONTROLLERS"}, Usage: "the cloud's controllers, `URL,URL,…`"},
				&cli.StringFlag{Name: "cacert", Usage: "trust the certificate authority in this PEM `FILE`, beside the system's"},
				&cli.BoolFlag{Name: "skip-tls-verification", Usage: "do not check the controllers' certificates (tests only)", DisableDefaultText: true},
				&cli.BoolFlag{Name: "use", Usage: "use it from now on", DisableDefaultText: true},
			}, Action: addContext},
		&cli.Command{Name: "list", Usage: "list the contexts", UsageText: "ankacluster context list [--json]",
			Flags: []cli.Flag{jsonFlag(), quietFlag("print names only")}, Action: listContexts},
		&cli.Command{Name: "use", Usage: "use a context from now on", UsageText: "ankacluster context use NAME", Action: useContext},
		&cli.Command{Name: "remove", Usage: "forget a context", UsageText: "ankacluster context remove NAME", Action: removeContext})
}

func addContext(c *cli.Context) error {
	if err := want(c, "NAME"); err != nil {
		return err
	}
	if c.String("controllers") == "" {
		return usagef("--controllers is missing: the cloud's controllers, such as http://10.0.1.4:8090,http://10.0.1.5:8090")
	}
	urls, err := controllerURLs([]string{c.String("controllers")})
	if err != nil {
		return usagef("--controllers: %w", err)
	}
	ca, err := absolute(c.String("cacert"))
	if err != nil {
		return err
	}
	file, err := contexts()
	if err != nil {
		return err
	}
	name := c.Args().First()
	file.Contexts[name] = clouds.Config{Controllers: urls, CACert: ca, SkipTLSVerification: c.Bool("skip-tls-verification")}
	if c.Bool("use") || len(file.Contexts) == 1 {
		file.Current = name
	}
	if err := file.Save(); err != nil {
		return err
	}
	if file.Current != name {
		return done(c, nil, "context %s is remembered; ankacluster context use %s uses it", name, name)
	}
	return done(c, nil, "context %s is remembered and in use", name)
}

func listContexts(c *cli.Context) error {
	if err := want(c); err != nil {
		return err
	}
	file, err := contexts()
	if err != nil {
		return err
	}
	switch {
	case c.Bool("json"):
		return printJSON(c.App.Writer, file)
	case c.Bool("quiet"):
		return printWords(c, file.Names())
	case len(file.Contexts) == 0:
		return done(c, nil, "no cloud is remembered yet; ankacluster context add NAME --controllers URL,… does it")
	}
	t := newTable(c.App.Writer, "IN USE", "NAME", "CONTROLLERS")
	for _, name := range file.Names() {
		used := ""
		if name == file.Current {
			used = "yes"
		}
		t.add(used, name, strings.Join(file.Contexts[name].Controllers, " "))
	}
	return t.print()
}

func useContext(c *cli.Context) error {
	return changeContext(c, func(file *clouds.File, name string) string {
		file.Current = name
		return "context " + name + " is in use"
	})
}

func removeContext(c *cli.Context) error {
	return changeContext(c, func(file *clouds.File, name string) string {
		delete(file.Contexts, name)
		if file.Current != name {
			return "context " + name + " is forgotten"
		}
		file.Current = ""
		return "context " + name + " is forgotten; none is in use now"
	})
}

func changeContext(c *cli.Context, change func(*clouds.File, string) string) error {
	if err := want(c, "NAME"); err != nil {
		return err
	}
	file, err := contexts()
	if err != nil {
		return err
	}
	name := c.Args().First()
	if _, err := file.Get(name); err != nil {
		return explainCloud(err)
	}
	said := change(file, name)
	if err := file.Save(); err != nil {
		return err
	}
	return done(c, nil, "%s", said)
}
