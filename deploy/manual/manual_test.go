package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// outside finds what a browser would ask another host for.
var outside = regexp.MustCompile(`(?:src|<link[^>]*href)="(?:https?:)?//`)

func TestManualIsBuiltAndItsLinksLead(t *testing.T) {
	out := t.TempDir()
	n, err := build("../..", out)
	if err != nil {
		t.Fatal(err)
	}
	if n < 20 {
		t.Errorf("%d pages", n)
	}
	for _, file := range []string{"index.html", "docs/operators/ports.html", "README.html"} {
		text, err := os.ReadFile(filepath.Join(out, file))
		if err != nil {
			t.Fatal(err)
		}
		if m := outside.Find(text); m != nil {
			t.Errorf("%s asks another host: %s", file, m)
		}
	}
	ports, err := os.ReadFile(filepath.Join(out, "docs/operators/ports.html"))
	if err != nil || !strings.Contains(string(ports), `<td>8090</td>`) || !strings.Contains(string(ports), `src="../../search.js"`) {
		t.Errorf("ports.html: %v", err)
	}
	script, err := os.ReadFile(filepath.Join(out, "search.js"))
	if err != nil || !strings.Contains(string(script), `"Page":"docs/operators/troubleshooting.html"`) {
		t.Errorf("search.js: %v", err)
	}
}

func TestBrokenLinksAreNamed(t *testing.T) {
	root := t.TempDir()
	for file, body := range map[string]string{
		"docs/README.md": "# Index\n\n[gone](gone.md) [no heading](a.md#none) [fine](a.md#part)\n", "docs/a.md": "# A\n\n## Part\n",
		"README.md": "# R", "SECURITY.md": "# S", "CONTRIBUTING.md": "# C", "CHANGELOG.md": "# L", "deploy/helm/ankacluster/README.md": "# H",
	} {
		file = filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, err := build(root, t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "there is no docs/gone.md") || !strings.Contains(err.Error(), "docs/a.md has no heading") || strings.Contains(err.Error(), "#part") {
		t.Errorf("error %v", err)
	}
}
