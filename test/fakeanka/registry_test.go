package main

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ankacluster/ankacluster/registryapi/content/memory"
	"github.com/ankacluster/ankacluster/registryapi/server"
)

func startRegistry(t *testing.T) string {
	t.Helper()
	cfg := server.DefaultConfig()
	cfg.Root = t.TempDir()
	srv, err := server.New(cfg, memory.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(srv.Handler())
	t.Cleanup(ts.Close)
	return ts.URL
}

func TestTemplateGoesFromMacToMac(t *testing.T) {
	t.Parallel()
	url := startRegistry(t)
	one, two := newMac(t), newMac(t)
	one.ok("create", "Sonoma", "--size", "3M", "--layers", "2", "-t", "v1")
	one.ok("registry", "-o2", "-p", "team", "-r", url, "push", "Sonoma", "-t", "v1", "-d", "fresh")

	if a := two.anka("-j", "registry", "-o2", "-p", "team", "-r", url, "pull", "Sonoma", "-t", "v9"); a.exit == 0 || a.Code != 3 {
		t.Errorf("pull of a missing tag: exit %d, %s", a.exit, a.stdout)
	}
	two.ok("registry", "-o2", "-p", "team", "-r", url, "pull", "Sonoma", "-t", "v1")
	if got := two.ok("show", "Sonoma")["version"]; got != "v1" {
		t.Errorf("pulled version %v", got)
	}
	// What a VM writes is in the image that is saved from it.
	two.ok("clone", "Sonoma", "builder", "-t", "v1")
	if a := two.anka("run", "builder", "sh", "-c", "mkdir -p a && echo brew > a/b"); a.exit != 0 {
		t.Fatalf("run: %s", a.stderr)
	}
	if a := two.anka("-j", "registry", "-o2", "-p", "team", "-r", url, "push", "builder", "-v", "Sonoma", "-t", "v2"); a.exit == 0 {
		t.Error("a running VM was pushed")
	}
	two.ok("suspend", "builder")
	two.ok("registry", "-o2", "-p", "team", "-r", url, "push", "builder", "-v", "Sonoma", "-t", "v2")
	if a := two.anka("-j", "registry", "-o2", "-p", "team", "-r", url, "push", "builder", "-v", "Sonoma", "-t", "v1"); a.exit == 0 || !strings.Contains(a.Message, "exists") {
		t.Errorf("push over a tag: exit %d, %s", a.exit, a.stdout)
	}
	if a := one.anka("-j", "registry", "-o2", "-p", "team", "-r", url, "pull", "--check-download-size", "Sonoma", "-t", "v2"); a.exit != 2 {
		t.Errorf("registry pull has no option --check-download-size: exit %d", a.exit)
	}
	size := one.ok("pull", "-o2", "team/Sonoma", url, "--check-download-size", "-t", "v2")
	if n := size["size"].(float64) - size["cached"].(float64); n <= 0 || n > 99999 {
		t.Errorf("download size %v: want that of the new layer alone", size)
	}
	one.ok("registry", "-o2", "-p", "team", "-r", url, "pull", "Sonoma", "-t", "v2")
	one.ok("clone", "Sonoma", "again", "-t", "v2")
	if a := one.anka("run", "again", "cat", "a/b"); a.stdout != "brew\n" {
		t.Errorf("the saved image has %q%s", a.stdout, a.stderr)
	}
}

func TestPullThatDiesLeavesNoHalfTemplate(t *testing.T) {
	t.Parallel()
	url := startRegistry(t)
	one, two := newMac(t), newMac(t)
	one.ok("create", "sonoma", "--size", "8M", "--layers", "2", "-t", "v1")
	one.ok("registry", "-o2", "-p", "team", "-r", url, "push", "sonoma", "-t", "v1")
	cmd := two.command("-j", "registry", "-o2", "-p", "team", "-r", url, "pull", "sonoma", "-t", "v1")
	r, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); err != nil { // the first progress
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if a := two.anka("-j", "show", "sonoma"); a.exit == 0 {
		// It had just ended; then it must be whole.
		two.ok("clone", "sonoma", "vm1")
		two.ok("start", "vm1")
		return
	}
	two.ok("registry", "-o2", "-p", "team", "-r", url, "pull", "sonoma", "-t", "v1")
	two.ok("clone", "sonoma", "vm1")
	two.ok("start", "vm1")
	left, err := os.ReadDir(filepath.Join(two.dir, "pulls"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		if f.IsDir() {
			t.Errorf("the pull left %s", f.Name())
		}
	}
}

func TestPullByIdGoesThroughTheTemplateList(t *testing.T) {
	t.Parallel()
	url := startRegistry(t)
	one, two := newMac(t), newMac(t)
	id := one.ok("create", "sonoma", "--size", "1M", "-t", "v1")["uuid"].(string)
	one.ok("registry", "-o2", "-p", "team", "-r", url, "push", "sonoma", "-t", "v1")
	two.ok("registry", "add", "main", url)
	two.ok("pull", id, "-t", "v1")
	if got := two.ok("show", id)["name"]; got != "sonoma" {
		t.Errorf("pulled %v", got)
	}
}
