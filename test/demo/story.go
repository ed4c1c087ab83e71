package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/ankacluster/ankacluster/internal/termstyle"
)

// story prints the demo's steps, a line each: what was done, what was seen, how long
// it took. The first step that is not as expected ends the story.
type story struct {
	out  io.Writer
	next int
	err  error
}

// step runs do and prints one line. do returns what was seen. After a failed
// step every later one is skipped.
func (s *story) step(ctx context.Context, title, expected string, do func(context.Context) (seen string, err error)) {
	if s.err != nil {
		return
	}
	if s.err = ctx.Err(); s.err != nil {
		return
	}
	s.next++
	l := termstyle.Of(s.out)
	if l.Terminal { // replaced when the step is over
		fmt.Fprintf(s.out, "  %s%s ...", l.Sign(termstyle.None), title)
	}
	began := time.Now()
	seen, err := do(ctx)
	took := time.Since(began).Seconds()
	if l.Terminal {
		fmt.Fprint(s.out, "\r"+termstyle.ClearLine)
	}
	switch {
	case ctx.Err() != nil:
		s.err = ctx.Err()
	case err != nil:
		fmt.Fprintf(s.out, "  %s%s\n", l.Sign(termstyle.Bad), title)
		s.below(l, "expected: "+expected)
		s.below(l, fmt.Sprintf("NOT AS EXPECTED after %.1fs: %v", took, err))
		s.err = fmt.Errorf("step %d (%s): %w", s.next, title, err)
	default:
		line := fmt.Sprintf("%s: %s (%.1fs)", title, seen, took)
		for i, part := range termstyle.Wrap(line, l.Width()-6) {
			if i == 0 {
				fmt.Fprintf(s.out, "  %s%s\n", l.Sign(termstyle.Good), part)
			} else {
				fmt.Fprintf(s.out, "      %s\n", part)
			}
		}
	}
}

func (s *story) below(l termstyle.Look, text string) {
	for _, part := range termstyle.Wrap(text, l.Width()-8) {
		fmt.Fprintf(s.out, "      %s\n", part)
	}
}

// say prints a line between steps.
func (s *story) say(format string, args ...any) {
	if s.err == nil {
		l := termstyle.Of(s.out)
		fmt.Fprintln(s.out)
		for _, part := range termstyle.Wrap(fmt.Sprintf(format, args...), l.Width()-2) {
			fmt.Fprintln(s.out, l.Bold(part))
		}
	}
}
