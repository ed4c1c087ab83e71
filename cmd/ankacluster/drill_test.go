package main

import (
	"bytes"
	"strings"
	"testing"
)

// Not parallel: cli keeps its help flag in a global.

func TestDrillRefusesBadValuesWithOneClearError(t *testing.T) {
	tests := []struct {
		args []string
		want string // must be named by the error
	}{
		{[]string{"--rate", "0"}, "--rate 0"},
		{[]string{"--rate", "many"}, "rate"},
		{[]string{"--scenario", "earthquake"}, `--scenario "earthquake"`},
		{[]string{"--duration", "5"}, "--duration 5 needs a unit: 5s?"},
		{[]string{"--duration", "soon"}, `--duration "soon"`},
		{[]string{"--duration", "1ms"}, "--duration 1ms"},
		{[]string{"--heal", "1s"}, "--heal 1s"},
		{[]string{"--posts", "all"}, `--posts "all"`},
		{[]string{"--seed", "-1"}, "seed"},
		{[]string{"--against", "localhost:80"}, "--against"},
		{[]string{"--backends", "a:1,b:2"}, "--backends"},
		{[]string{"--backends", "a,b,c"}, `--backends "a"`},
		{[]string{"--html", "/nowhere/at/all.html"}, "--html: open /nowhere/at/"},
		{[]string{"kill"}, `"kill"`},
	}
	for _, tt := range tests {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), append([]string{"ankacluster", "drill"}, tt.args...), &stdout, &stderr)
		if code != exitUsage || !strings.Contains(stderr.String(), tt.want) || strings.Count(stderr.String(), "error:") != 1 {
			t.Errorf("%v: exit %d, stderr %q; want %d and one error that names %q", tt.args, code, stderr.String(), exitUsage, tt.want)
		}
		if stdout.Len() > 0 {
			t.Errorf("%v: wrote %q to stdout", tt.args, stdout.String())
		}
	}
}

func TestDrillListsEveryScenario(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"ankacluster", "drill", "--list"}, &stdout, &stderr); code != exitDone {
		t.Fatalf("exit %d: %s", code, stderr.String())
	}
	for _, name := range []string{"none", "kill", "hang", "drop", "503-ready", "all-down", "download-kills", "404-all"} {
		if !strings.Contains(stdout.String(), name+" ") {
			t.Errorf("%q is missing in:\n%s", name, stdout.String())
		}
	}
}
