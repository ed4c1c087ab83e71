package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ankacluster/ankacluster/agent/doctor"
	"github.com/ankacluster/ankacluster/agent/state"
)

// What root would run and another user may replace is refused, with what to do;
// doctor says so too.
func TestJoinRefusesProgramsOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give files away")
	}
	dir := t.TempDir()
	own, theirs := filepath.Join(dir, "own"), filepath.Join(dir, "brew")
	for _, d := range []string{own, theirs} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "anka"), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(own, "anka"), filepath.Join(theirs, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(theirs, 12345, 0); err != nil {
		t.Fatal(err)
	}
	with := func(path, runtime, user string) state.Config {
		cfg := state.DefaultConfig()
		cfg.AnkaPath, cfg.TartPath, cfg.Runtime, cfg.TartUser = path, path, runtime, user
		return cfg
	}
	for name, tt := range map[string]struct {
		cfg  state.Config
		want string // in the error and its hint; "" for none
	}{
		"root's own":              {with(filepath.Join(own, "anka"), state.RuntimeAnka, ""), ""},
		"a user's folder":         {with(filepath.Join(theirs, "anka"), state.RuntimeAnka, ""), "brew belongs to user 12345"},
		"a link that a user made": {with(filepath.Join(theirs, "link"), state.RuntimeAnka, ""), ankaPathEnv + "=" + filepath.Join(own, "anka")},
		"tart as root":            {with(filepath.Join(theirs, "anka"), state.RuntimeTart, "root"), tartPathEnv},
		"tart as that user":       {with(filepath.Join(theirs, "anka"), state.RuntimeTart, "someone"), ""},
		"not there":               {with(filepath.Join(theirs, "none"), state.RuntimeAnka, ""), ""},
	} {
		err := refuseShared(tt.cfg, state.Dir(own))
		var text strings.Builder
		if err != nil {
			printError(&text, err)
		}
		if (tt.want == "") != (err == nil) || !strings.Contains(text.String(), tt.want) {
			t.Errorf("%s: got %q, want %q", name, text.String(), tt.want)
		}
	}
	for place, ok := range map[string]bool{filepath.Join(own, "new", "state"): true, theirs: false, filepath.Join(theirs, "new"): false} {
		if err := refuseShared(with(filepath.Join(own, "anka"), state.RuntimeAnka, ""), state.Dir(place)); (err == nil) != ok {
			t.Errorf("state in %s: %v", place, err)
		}
	}
	found := doctor.Run(t.Context(), doctor.Config{StateDir: dir, Programs: []string{filepath.Join(own, "anka"), filepath.Join(theirs, "anka")}})
	told := 0
	for _, f := range found {
		if f.Check == "program" {
			told++
			if f.Level != doctor.Fail || f.Target != filepath.Join(theirs, "anka") {
				t.Errorf("doctor: %+v", f)
			}
		}
	}
	if told != 1 {
		t.Errorf("doctor told of %d programs, want 1", told)
	}
}
