package main

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/balancer/drill"
	"github.com/ankacluster/ankacluster/balancer/drill/report"
	"github.com/ankacluster/ankacluster/internal/atomicfile"
	"github.com/ankacluster/ankacluster/internal/buildinfo"
)

// drillPage is the page of --html, nil without.
type drillPage struct {
	file  *atomicfile.File
	path  string
	drill report.Drill
}

// newPage opens the page's file, so that a place where none can be written is known
// before the drill.
func newPage(c *cli.Context, cfg drill.Config) (*drillPage, error) {
	path := c.String("html")
	if path == "" {
		return nil, nil
	}
	file, err := atomicfile.Options{Mode: 0o644}.Create(path)
	if err != nil {
		return nil, usagef("--html: %w", err)
	}
	return &drillPage{file, path, report.Drill{
		Command: drillLine(c), Version: buildinfo.Line("ankacluster"), At: time.Now(), Config: cfg,
		Machine: fmt.Sprintf("%d processors, %s/%s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH),
	}}, nil
}

// drillLine is what was typed, with the seed.
func drillLine(c *cli.Context) string {
	words := []string{"ankacluster", "drill"}
	for _, f := range c.Command.Flags {
		name := f.Names()[0]
		if !c.IsSet(name) || name == "html" || name == "json" || name == "seed" {
			continue
		}
		value := c.String(name)
		if list, ok := c.Value(name).(cli.StringSlice); ok {
			value = strings.Join(list.Value(), ",")
		} else if value == "" {
			value = fmt.Sprint(c.Value(name))
		}
		words = append(words, "--"+name, quoted(value))
	}
	return strings.Join(append(words, "--seed", fmt.Sprint(c.Uint64("seed")), "--html", quoted(c.String("html"))), " ")
}

func (p *drillPage) add(rows []*drill.Row) {
	if p != nil {
		p.drill.Rows = append(p.drill.Rows, rows...)
	}
}

func (p *drillPage) write(errOut io.Writer) error {
	if p == nil {
		return nil
	}
	p.drill.Took = time.Since(p.drill.At)
	if err := report.Write(p.file, p.drill); err != nil {
		return fmt.Errorf("--html %s: %w", p.path, err)
	}
	if err := p.file.Commit(); err != nil {
		return fmt.Errorf("--html %s: %w", p.path, err)
	}
	fmt.Fprintf(errOut, "the page is %s\n", p.path)
	return nil
}

// close leaves no half of a page behind.
func (p *drillPage) close() {
	if p != nil {
		_ = p.file.Close() // of what write did not finish
	}
}
