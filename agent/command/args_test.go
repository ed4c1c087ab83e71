package command

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap"
)

// What could be an option, or more than one argument to who reads a list of them,
// keeps the command from being run.
func TestValuesAreNotOptions(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "ran")
	run := New("", zap.NewNop(), nil)
	touch := func(args Args) Command {
		return Command{Path: "/usr/bin/env", Args: Words("touch").Values(mark).Join(args)}
	}
	for _, v := range []string{"--all", "-f", "-", "", "a\nb", "a\x00b", "\x1b[2J"} {
		_, err := run.Run(t.Context(), touch(Args{}.Values(v)))
		if !errors.Is(err, ErrRefused) {
			t.Errorf("run with %q: %v", v, err)
		}
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := run.Spawn(t.Context(), touch(Args{}.Values("first", v)), out); !errors.Is(err, ErrRefused) {
			t.Errorf("daemon with %q: %v", v, err)
		}
		out.Close()
	}
	if _, err := os.Stat(mark); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a command was run: %v", err)
	}
	if res, err := run.Run(t.Context(), touch(Args{})); err != nil || res.ExitCode != 0 {
		t.Fatalf("exit code %d, %v: %s", res.ExitCode, err, res.Stderr)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("nothing was run: %v", err)
	}
}

func TestArgs(t *testing.T) {
	base := Words("delete", "--yes")
	a, b := base.Values("a"), base.Values("b")
	for _, tt := range []struct {
		got        Args
		want, verb string
	}{
		{a, "delete --yes a", "delete"},
		{b, "delete --yes b", "delete"},
		{Words("-j").Join(b), "-j delete --yes b", "delete"},
		{Words("--version"), "--version", "--version"},
		{Args{}, "", "none"},
		{Words("push").Text("-d", "--force"), "push -d  --force", "push"},
		{Words("push").Text("-d", "two\nlines"), "push -d two\nlines", "push"},
	} {
		if tt.got.err != nil || tt.got.String() != tt.want || tt.got.Verb() != tt.verb {
			t.Errorf("got %q, verb %q, %v; want %q, %q", tt.got, tt.got.Verb(), tt.got.err, tt.want, tt.verb)
		}
	}
	if err := Words("x").Text("-d", "a\x00b").err; !errors.Is(err, ErrRefused) {
		t.Errorf("a zero byte: %v", err)
	}
}
