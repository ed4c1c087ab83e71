package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestWrongFlagsAreNamed(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"":                                      "--controllers must name at least one URL",
		"--controllers , ":                      "--controllers must name at least one URL",
		"--controllers http://a --nodes -1":     "--nodes -1 must not be negative",
		"--controllers http://a --capacity 0":   "--capacity 0 must be at least 1",
		"--controllers http://a --clients 0":    "--clients 0 must be at least 1",
		"--controllers http://a --duration -1s": "a duration must not be negative",
		"--controllers http://a --duration 1":   "invalid value \"1\" for flag -duration",
		"--controllers http://a extra":          `unexpected argument "extra"`,
		"--nonsense":                            "not defined: -nonsense",
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), strings.Fields(args), &out, &errs)
		if code != 2 || !strings.Contains(errs.String(), want) || out.Len() > 0 {
			t.Errorf("nodesim %s: code %d, stderr %q; want 2 and %q", args, code, errs.String(), want)
		}
	}
	if code := run(t.Context(), []string{"--help"}, &bytes.Buffer{}, &bytes.Buffer{}); code != 0 {
		t.Errorf("--help: code %d", code)
	}
}
