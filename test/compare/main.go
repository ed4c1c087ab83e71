package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/ankacluster/ankacluster/balancer/drill"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "compare: error:", err)
		os.Exit(1)
	}
}

type options struct {
	program, deploy, out, results string
	doors                         []string
	render, speedOnly, noSpeed    bool
	promises                      string // the part of the page that is not measured
	drill                         drill.Config
}

func parse(args []string) (options, error) {
	o := options{drill: drill.DefaultConfig()}
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	flags.StringVar(&o.program, "program", "bin/ankacluster", "the ankacluster binary")
	flags.StringVar(&o.deploy, "deploy", "deploy", "where haproxy/ and nginx/ are")
	flags.StringVar(&o.out, "out", "", "file for the table; empty is standard output")
	flags.StringVar(&o.results, "results", "", "file to which rows are added, and from which the table is written")
	scenarios := flags.String("scenario", "", "scenarios, with commas; empty is all")
	doors := flags.String("through", strings.Join(doorNames, ","), "what to compare, with commas")
	flags.BoolVar(&o.render, "render", false, "run nothing, write the table")
	flags.BoolVar(&o.speedOnly, "speed-only", false, "measure throughput only")
	flags.BoolVar(&o.noSpeed, "no-speed", false, "do not measure throughput")
	flags.DurationVar(&o.drill.Duration, "duration", o.drill.Duration, "how long a fault lasts")
	flags.DurationVar(&o.drill.Heal, "heal", o.drill.Heal, "how long to go on after healing")
	flags.IntVar(&o.drill.Rate, "rate", o.drill.Rate, "requests a second of each of the two clients")
	flags.Uint64Var(&o.drill.Seed, "seed", o.drill.Seed, "chooses what breaks and the order of requests")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if *scenarios != "" {
		o.drill.Scenarios = strings.Split(*scenarios, ",")
	}
	o.doors = strings.Split(*doors, ",")
	for _, d := range o.doors {
		if !slices.Contains(doorNames, d) {
			return o, fmt.Errorf("-through %q is not one of %s", d, strings.Join(doorNames, ", "))
		}
	}
	var err error
	if o.program, err = filepath.Abs(o.program); err != nil {
		return o, err
	}
	o.drill.Program = []string{o.program, drill.FakeCommand}
	return o, o.drill.Validate()
}

// results is everything that was measured.
type results struct {
	Rows  []*drill.Row
	Speed []speed
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	all, err := load(o.results)
	if err != nil {
		return err
	}
	keep := func(kind string, v any) error { return appendTo(o.results, kind, v) }
	if !o.render && !o.speedOnly {
		for _, name := range o.doors {
			err := drill.Run(ctx, o.config(name), func(r *drill.Row) {
				r.Door = name
				fmt.Fprintf(os.Stderr, "%-10s %-14s %s\n", name, r.Scenario, r.Verdict())
				all.Rows = append(all.Rows, r)
				err = errors.Join(err, keep("row", r))
			})
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if !o.render && !o.noSpeed {
		measured, err := measureSpeed(ctx, o)
		if err != nil {
			return err
		}
		for _, s := range measured {
			all.Speed = append(all.Speed, s)
			if err := keep("speed", s); err != nil {
				return err
			}
		}
	}
	out := os.Stdout
	if o.out != "" {
		if o.promises, err = promisesOf(o.out); err != nil {
			return err
		}
		if out, err = os.Create(o.out); err != nil {
			return err
		}
		defer out.Close()
	}
	return write(out, o, all)
}

// promisesOf is the part of the page, as it is now, that is written by hand.
func promisesOf(path string) (string, error) {
	page, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	const heading = "\n## What is promised\n"
	if i := strings.Index(string(page), heading); i >= 0 {
		return string(page[i:]), nil
	}
	return "", fmt.Errorf("%s has no part %q, and would lose it", path, strings.TrimSpace(heading))
}

// load reads what earlier runs have kept.
func load(path string) (all results, err error) {
	if path == "" {
		return all, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return all, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		kind, body, _ := strings.Cut(lines.Text(), " ")
		switch kind {
		case "row":
			var r drill.Row
			if err := json.Unmarshal([]byte(body), &r); err != nil {
				return all, fmt.Errorf("%s: %w", path, err)
			}
			all.Rows = append(all.Rows, &r)
		case "speed":
			var s speed
			if err := json.Unmarshal([]byte(body), &s); err != nil {
				return all, fmt.Errorf("%s: %w", path, err)
			}
			all.Speed = append(all.Speed, s)
		}
	}
	return all, lines.Err()
}

func appendTo(path, kind string, v any) error {
	if path == "" {
		return nil
	}
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, "%s %s\n", kind, body)
	return err
}
