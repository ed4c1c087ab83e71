package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ankacluster/ankacluster/balancer/drill"
)

const deploy = "../../deploy"

// The configurations are accepted by the programs that they are for.
func TestComparisonConfigurationsAreValid(t *testing.T) {
	t.Parallel()
	check := func(program string, args ...string) {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Logf("%s is not installed: not checked", program)
			return
		}
		out, err := exec.Command(path, args...).CombinedOutput()
		if err != nil {
			t.Errorf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
		}
	}
	dir, err := filepath.Abs(deploy)
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"controllers", "registries"} {
		check("haproxy", "-c", "-q", "-f", filepath.Join(dir, "haproxy/comparison", role+".cfg"))
		check("nginx", "-t", "-q", "-p", t.TempDir(), "-c", filepath.Join(dir, "nginx/comparison", role+".conf"))
		check("caddy", "validate", "--adapter", "caddyfile", "--config", filepath.Join(dir, "caddy/comparison", role+".caddyfile"))
	}
}

// The harness replaces these addresses; one that is missing would be drilled
// with nothing behind it.
func TestComparisonConfigurationsNameEveryAddress(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(deploy + "/*/comparison/*.c*f*")
	if err != nil || len(files) != 6 {
		t.Fatalf("got %v (%v), want six files", files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, addr := range []string{"127.0.0.1:18100", "127.0.0.1:18101", "127.0.0.1:18102", "127.0.0.1:18103"} {
			if n := bytes.Count(text, []byte(addr)); n != 1 {
				t.Errorf("%s names %s %d times, want once", f, addr, n)
			}
		}
	}
}

func TestTableSaysWhatWasMeasuredAndWhatWasNot(t *testing.T) {
	t.Parallel()
	var row drill.Row
	line := `{"scenario":"hang","get":{"sent":9,"slow":3},"post_with_key":{"sent":9},"post_without_key":{"sent":9,"failed":2,"run_twice":1},"steady_seconds":"never","traffic_back_seconds":0.25}`
	if err := json.Unmarshal([]byte(line), &row); err != nil {
		t.Fatal(err)
	}
	row.Door = "haproxy"
	var out bytes.Buffer
	page := filepath.Join(t.TempDir(), "page")
	if err := os.WriteFile(page, []byte("old\n\n## What is promised\n\nThis is kept.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	promises, err := promisesOf(page)
	if err != nil {
		t.Fatal(err)
	}
	o := options{doors: []string{"haproxy", "nginx"}, drill: drill.DefaultConfig(), promises: promises}
	if err := write(&out, o, results{Rows: []*drill.Row{&row}}); err != nil {
		t.Fatal(err)
	}
	want := "| **hang**: one accepts requests and never answers (SIGSTOP) | GET 0/3, no key 2/0/1; steady never, back 0.25s | not measured |"
	if !strings.Contains(out.String(), want) {
		t.Errorf("got\n%s\nwant a line\n%s", out.String(), want)
	}
	if !strings.HasSuffix(out.String(), "\n\n## What is promised\n\nThis is kept.\n") || strings.Contains(out.String(), "old") {
		t.Errorf("the promises are not kept:\n%s", out.String())
	}
	if strings.Contains(out.String(), "**kill**") {
		t.Error("a scenario that nobody measured has a row")
	}
}
