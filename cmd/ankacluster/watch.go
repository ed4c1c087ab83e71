package main

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/internal/termstyle"
)

// watchEvery is how often a screen is drawn anew.
const watchEvery = time.Second

// watch shows again and again until it is interrupted: on a terminal in the place
// of what was there, in a pipe below it.
func watch(c *cli.Context, show func(io.Writer) error) error {
	out := c.App.Writer
	l := termstyle.Of(out)
	for {
		page := &screen{look: l}
		if err := show(page); err != nil {
			return err
		}
		switch {
		case l.Terminal:
			raw := termstyle.Raw(out)
			_, _ = io.WriteString(raw, termstyle.Home)
			for line := range bytes.Lines(page.Bytes()) {
				_, _ = out.Write(bytes.TrimSuffix(line, []byte("\n")))
				_, _ = io.WriteString(raw, termstyle.ClearLine+"\n")
			}
			_, _ = io.WriteString(raw, termstyle.ClearBelow)
		case c.Bool("json"):
			_, _ = out.Write(page.Bytes())
		default:
			_, _ = fmt.Fprintf(out, "%s\n", page.Bytes())
		}
		select {
		case <-c.Context.Done():
			return nil
		case <-time.After(watchEvery):
		}
	}
}

// screen is a page that is shown at once; it looks like what it is for.
type screen struct {
	bytes.Buffer
	look termstyle.Look
}

// Look is the terminal's.
func (s *screen) Look() termstyle.Look { return s.look }
