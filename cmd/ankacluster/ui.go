package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/internal/progress"
)

// hinted is an error with advice for whoever reads it.
type hinted struct {
	err  error
	hint string
}

func (e hinted) Error() string { return e.err.Error() }
func (e hinted) Unwrap() error { return e.err }

// hintf adds advice to an error.
func hintf(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return hinted{err, fmt.Sprintf(format, args...)}
}

// printError prints what went wrong and what to do about it.
func printError(w io.Writer, err error) {
	fmt.Fprintf(w, "ankacluster: error: %v\n", err)
	var h hinted
	if errors.As(err, &h) {
		fmt.Fprintf(w, "hint: %s\n", h.hint)
	}
}

// count writes a number with its noun: 1 VM, 2 VMs.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if stem, ok := strings.CutSuffix(noun, "y"); ok {
		return fmt.Sprintf("%d %sies", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// ago writes how long ago something was, in the two largest units.
func ago(t time.Time, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return brief(now.Sub(t)) + " ago"
}

// brief writes a duration as a person would say it.
func brief(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d < time.Second:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// size writes bytes for people.
func size[N int64 | uint64](n N) string { return progress.Size(n) }
