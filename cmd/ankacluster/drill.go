package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/balancer/drill"
	"github.com/ankacluster/ankacluster/balancer/drill/door"
	"github.com/ankacluster/ankacluster/balancer/drill/report"
	"github.com/ankacluster/ankacluster/internal/termstyle"
)

// drillFakeCommand is one of the drill's fakes: never typed by a person.
func drillFakeCommand() *cli.Command {
	return &cli.Command{
		Name:            drill.FakeCommand,
		Hidden:          true,
		SkipFlagParsing: true,
		Action: func(c *cli.Context) error {
			return drill.FakeMain(c.Context, c.Args().Slice(), os.Stdin, c.App.Writer)
		},
	}
}

func drillCommand() *cli.Command {
	d := drill.DefaultConfig()
	return &cli.Command{
		Name:  "drill",
		Usage: "break fake controllers and registries and show what a caller notices",
		UsageText: `ankacluster drill [options]

Starts three fake controllers and registries as processes on this machine, puts
the node's balancer in front of them, sends a steady load, breaks something, and
judges what the callers saw. Nothing outside this machine is touched.

With --html the drill is also one page with a plot of each scenario. Another
load balancer (--against) is then held to the same beside the node's own.

Example: ankacluster drill --scenario hang,kill --html drill.html`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "list", Usage: "list the scenarios and end", DisableDefaultText: true},
			&cli.StringSliceFlag{Name: "scenario", Aliases: []string{"s"}, Usage: "`NAME`s to run, with commas or repeated (default: all)"},
			&cli.IntFlag{Name: "rate", Value: d.Rate, Usage: "`REQUESTS` a second of each of the two clients"},
			&cli.StringFlag{Name: "duration", Value: d.Duration.String(), Usage: "how long a fault lasts, as a `TIME` with a unit"},
			&cli.StringFlag{Name: "heal", Value: d.Heal.String(), Usage: "`TIME` to go on after healing; 35s sees the whole ramp"},
			&cli.Uint64Flag{Name: "seed", Value: d.Seed, Usage: "`NUMBER` that chooses what breaks and the order of requests"},
			&cli.StringFlag{Name: "posts", Value: d.Posts, Usage: "`KIND` of POSTs: keyed, unkeyed or both"},
			&cli.StringFlag{Name: "against", Usage: "drill the load balancer at `URL` instead of the node's own; with --html, before it"},
			&cli.StringSliceFlag{Name: "backends", Usage: "three `ADDRESS`es for the fakes to listen on (default: free ports)"},
			&cli.StringFlag{Name: "html", Usage: "write a page with plots, promises and verdicts to `FILE`"},
			&cli.BoolFlag{Name: "json", Aliases: []string{"j", "machine-readable"}, Usage: "write one JSON object per scenario", DisableDefaultText: true},
		},
		Action: runDrill,
	}
}

func runDrill(c *cli.Context) error {
	out, errOut := c.App.Writer, c.App.ErrWriter
	if c.NArg() > 0 {
		return usagef("unexpected argument %q; scenarios are chosen with --scenario", c.Args().First())
	}
	if c.Bool("list") {
		for _, name := range drill.Names() {
			fmt.Fprintf(out, "%-14s %s\n", name, drill.About(name))
		}
		return nil
	}
	cfg := drill.DefaultConfig()
	cfg.Scenarios, cfg.Rate, cfg.Seed = c.StringSlice("scenario"), c.Int("rate"), c.Uint64("seed")
	cfg.Posts = c.String("posts")
	if err := errors.Join(durationFlag(c, "duration", &cfg.Duration), durationFlag(c, "heal", &cfg.Heal)); err != nil {
		return usageError{err}
	}
	if b := c.StringSlice("backends"); len(b) > 0 {
		cfg.Listen = b
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	cfg.Program = []string{exe, drill.FakeCommand}
	cfg.Open = door.Balancer
	cfg.OpenDownload = func() door.Door { return door.Proxy([]string{exe}, "registry") }
	if err := cfg.Validate(); err != nil {
		return usageError{err}
	}
	own, cfgs := cfg, []drill.Config{cfg}
	if against := c.String("against"); against != "" {
		base, err := door.CheckURL(against)
		if err != nil {
			return usagef("--against %q: %w", against, err)
		}
		cfg.Open = func() door.Door { return door.URL(base, base) }
		cfg.OpenDownload = cfg.Open
		cfg.Fixed, cfg.Patience = true, 5*time.Minute // a person is configuring the other side meanwhile
		cfg.Ready = func(backends []string) {
			fmt.Fprintf(errOut, "backends: %s\nwaiting until %s sends to all of them\n", strings.Join(backends, " "), base)
		}
		cfgs = []drill.Config{cfg}
		if c.String("html") != "" {
			cfgs = append(cfgs, own)
		}
	}
	page, err := newPage(c, cfg)
	if err != nil {
		return err
	}
	defer page.close()
	broken, held := 0, 0
	for _, cfg := range cfgs {
		rows, err := holdDrill(c, cfg)
		if err != nil {
			return err
		}
		broken, held = 0, len(rows) // of the node's own, where that is drilled
		for _, r := range rows {
			if len(r.Broken) > 0 {
				broken++
			}
		}
		page.add(rows)
	}
	if err := page.write(errOut); err != nil {
		return err
	}
	if broken > 0 {
		return fmt.Errorf("%d of %d scenarios broke a promise", broken, held)
	}
	return nil
}

// holdDrill plays the scenarios through one door, and prints what came of them.
func holdDrill(c *cli.Context, cfg drill.Config) (rows []*drill.Row, err error) {
	out, errOut := c.App.Writer, c.App.ErrWriter
	if isTerminal(errOut) {
		cfg.Live = errOut
	}
	begun := time.Now()
	err = drill.Run(c.Context, cfg, func(r *drill.Row) {
		rows = append(rows, r)
		if c.Bool("json") {
			_ = json.NewEncoder(out).Encode(r)
		} else {
			fmt.Fprintf(errOut, "%-14s %s\n", r.Scenario, r.Verdict())
		}
	})
	if c.Context.Err() != nil {
		return nil, errors.New("interrupted; nothing was left running")
	}
	if err != nil || c.Bool("json") {
		return rows, err
	}
	if err := report.Table(out, rows); err != nil {
		return nil, err
	}
	fmt.Fprintf(errOut, "%d scenarios in %v, seed %d\n", len(rows), time.Since(begun).Round(time.Second), cfg.Seed)
	return rows, nil
}

// isTerminal reports whether w is a character device: a person watches.
func isTerminal(w io.Writer) bool {
	f, ok := termstyle.Raw(w).(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
