package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/cmd/internal/clouds"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// cloudFlags say which cloud a command of people's is about.
func cloudFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "controllers", EnvVars: []string{"ANKA_CONTROLLERS"}, Usage: "ask the controllers at `URL,URL,…`, whichever is well"},
		&cli.StringFlag{Name: "context", EnvVars: []string{"ANKA_CONTEXT"}, Usage: "ask the cloud of the context `NAME`; default: the one in use, else the cloud that this node joined"},
		&cli.StringFlag{Name: "cacert", EnvVars: []string{"ANKA_CACERT"}, Usage: "trust the certificate authority in this PEM `FILE`, beside the system's"},
		&cli.BoolFlag{Name: "skip-tls-verification", Usage: "do not check the controllers' certificates (tests only)", DisableDefaultText: true},
		&cli.StringFlag{Name: "state-dir", EnvVars: []string{stateDirEnv}, Usage: "the node's `DIR`", Hidden: true},
	}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Aliases: []string{"j", "machine-readable"}, Usage: "print JSON", DisableDefaultText: true}
}

func quietFlag(what string) cli.Flag {
	return &cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: what, DisableDefaultText: true}
}

func watchFlag() cli.Flag {
	return &cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "show again as it changes, until interrupted", DisableDefaultText: true}
}

// family is a command that has commands.
func family(name, usage, text string, subs ...*cli.Command) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, UsageText: text, Subcommands: subs,
		Action: func(c *cli.Context) error {
			if word := c.Args().First(); word != "" {
				return unknownCommand("ankacluster "+name, word, c.Command.Subcommands)
			}
			return cli.ShowSubcommandHelp(c)
		},
	}
}

// cloudSub is a command about a cloud.
func cloudSub(name, usage, text string, flags []cli.Flag, action func(*cli.Context, *clouds.Cloud) error) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, UsageText: "ankacluster " + text, Flags: append(flags, cloudFlags()...),
		Action: func(c *cli.Context) error { return useCloud(c, action) },
	}
}

// useCloud calls act with the cloud that the flags, a context or this node name.
func useCloud(c *cli.Context, act func(*cli.Context, *clouds.Cloud) error) error {
	cfg, err := cloudConfig(c)
	if err != nil {
		return err
	}
	waits := func() {
		fmt.Fprintf(c.App.ErrWriter, "waiting for an answer of %s ...\n", strings.Join(cfg.Controllers, ", "))
	}
	err = clouds.Use(c.Context, cfg, waits, func(ctx context.Context, cloud *clouds.Cloud) error {
		c.Context = ctx
		return act(c, cloud)
	})
	return explainCloud(err)
}

func cloudConfig(c *cli.Context) (clouds.Config, error) {
	var cfg clouds.Config
	switch {
	case c.String("controllers") != "":
		urls, err := controllerURLs([]string{c.String("controllers")})
		if err != nil {
			return cfg, usagef("--controllers: %w", err)
		}
		cfg.Controllers = urls
	default:
		var err error
		if cfg, err = rememberedCloud(c); err != nil {
			return cfg, err
		}
	}
	cfg.CACert = cmp.Or(c.String("cacert"), cfg.CACert)
	cfg.SkipTLSVerification = c.Bool("skip-tls-verification") || cfg.SkipTLSVerification
	return cfg, nil
}

// rememberedCloud is the cloud of a context, or that of this node.
func rememberedCloud(c *cli.Context) (clouds.Config, error) {
	file, err := contexts()
	if err != nil {
		return clouds.Config{}, err
	}
	if name := cmp.Or(c.String("context"), file.Current); name != "" {
		cfg, err := file.Get(name)
		return cfg, explainCloud(err)
	}
	dir, err := stateDir(c)
	if err != nil {
		return clouds.Config{}, err
	}
	joined, err := dir.Config()
	if own, ok := ownJoined(); err != nil && ok && c.String("state-dir") == "" {
		joined, err = own.Config()
	}
	if errors.Is(err, state.ErrNotJoined) {
		return clouds.Config{}, hintf(usagef("which cloud? --controllers is not set, no context is in use, and %w", err),
			"ankacluster context add NAME --controllers http://HOST:8090,… remembers a cloud")
	}
	if err != nil {
		return clouds.Config{}, fmt.Errorf("which cloud? --controllers is not set, no context is in use, and the settings of this node cannot be read: %w", err)
	}
	return clouds.Config{Controllers: joined.Controllers, CACert: joined.Credentials.CACert, SkipTLSVerification: joined.Credentials.SkipTLS}, nil
}

// currentContext is the context in use, if there is one.
func currentContext() (cfg clouds.Config, ok bool, err error) {
	file, err := contexts()
	if err != nil || file.Current == "" {
		return cfg, false, err
	}
	cfg, err = file.Get(file.Current)
	return cfg, err == nil, explainCloud(err)
}

func contexts() (*clouds.File, error) {
	path, err := clouds.Path()
	if err != nil {
		return nil, hintf(fmt.Errorf("contexts: %w", err), "name the cloud with --controllers")
	}
	file, err := clouds.Load(path)
	if err != nil {
		return nil, hintf(fmt.Errorf("contexts: %w", err), "mend or remove that file: ankacluster context add writes a new one")
	}
	return file, nil
}

// explainCloud says in the words of a person what a cloud, or the way to it, did.
func explainCloud(err error) error {
	var h hinted
	if err == nil || errors.As(err, &h) {
		return err
	}
	if pass, ok := errors.AsType[*balancer.PassError](err); ok {
		return noController(pass)
	}
	if e, ok := errors.AsType[*clouds.NotFound](err); ok {
		list := "ankacluster " + strings.ToLower(e.Kind) + " list"
		if e.Near != "" {
			return hintf(err, "did you mean %s? %s shows what there is", e.Near, list)
		}
		return hintf(err, "%s shows what there is", list)
	}
	if _, ok := errors.AsType[*clouds.Ambiguous](err); ok {
		return usageError{hintf(err, "write more of its name or id")}
	}
	switch e, ok := controllerapi.Answered(err); {
	case ok && errors.Is(err, wire.CodeForeign):
		plain, _ := explainError(err)
		return plain
	case ok && e.Failed():
		return errors.New(e.Message)
	}
	return err
}

// noController lists what each controller did.
func noController(pass *balancer.PassError) error {
	lines := []string{"no controller answers"}
	width := 0
	for _, a := range pass.Attempts {
		width = max(width, len(a.Endpoint))
	}
	seen := make(map[string]bool)
	for _, a := range pass.Attempts {
		why, _ := explainError(a.Err)
		line := fmt.Sprintf("  %-*s  %v", width, a.Endpoint, why)
		if !seen[line] {
			lines = append(lines, line)
		}
		seen[line] = true
	}
	return hintf(errors.New(strings.Join(lines, "\n")), "are they the right addresses? A controller usually listens on port 8090: http://HOST:8090")
}

// absolute is a file's path that means the same everywhere.
func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}
