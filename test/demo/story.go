package main

import (
	"context"
	"fmt"
	"io"
	"time"
)

// story prints the demo's steps: what was expected, what was seen, how long it
// took. The first step that is not as expected ends the story.
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
	fmt.Fprintf(s.out, "%2d. %s\n", s.next, title)
	began := time.Now()
	seen, err := do(ctx)
	took := time.Since(began).Round(10 * time.Millisecond)
	if ctx.Err() != nil {
		s.err = ctx.Err()
		return
	}
	if err != nil {
		fmt.Fprintf(s.out, "    expected  %s\n    seen      NOT AS EXPECTED after %s: %v\n", expected, took, err)
		s.err = fmt.Errorf("step %d (%s): %w", s.next, title, err)
		return
	}
	fmt.Fprintf(s.out, "    expected  %s\n    seen      %s  (%s)\n", expected, seen, took)
}

// say prints a line between steps.
func (s *story) say(format string, args ...any) {
	if s.err == nil {
		fmt.Fprintf(s.out, "\n"+format+"\n", args...)
	}
}
