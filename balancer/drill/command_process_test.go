package drill_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ankacluster/ankacluster/balancer/drill"
)

// The command as a user runs it: its own binary plays the fakes, the real
// balancer stands before them, and nothing that may be repeated fails. How fast
// that is depends on the machine and is the business of make drill.
func TestDrillCommandKeepsRequestsThroughAKill(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a binary and takes several seconds of real time")
	}
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "ankacluster")
	build := exec.Command("go", "build", "-o", binary, "github.com/ankacluster/ankacluster/cmd/ankacluster")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	page := filepath.Join(t.TempDir(), "page.html")
	cmd := exec.CommandContext(t.Context(), binary, "drill", "--scenario", "kill", "--rate", "50", "--duration", "1s", "--heal", "3s", "--json", "--html", page)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var row drill.Row
	if jsonErr := json.Unmarshal(out, &row); jsonErr != nil {
		t.Fatalf("%v (%v): %s%s", jsonErr, err, out, stderr.String())
	}
	if row.Broken == nil {
		t.Errorf("no list of broken promises: %s", out)
	}
	if (err == nil) != (len(row.Broken) == 0) {
		t.Errorf("ended with %v though broken promises are %q", err, row.Broken)
	}
	if row.GET.Sent == 0 || row.Keyed.Sent == 0 || row.Unkeyed.Sent == 0 {
		t.Fatalf("sent nothing: %s", out)
	}
	if n := row.GET.Failed + row.Keyed.Failed; n > 0 {
		t.Errorf("%d requests that may be repeated failed: %s", n, out)
	}
	if n := row.Keyed.Twice + row.Unkeyed.Twice; n > 0 {
		t.Errorf("%d POSTs ran twice: %s", n, out)
	}
	if html, err := os.ReadFile(page); err != nil || !bytes.Contains(html, []byte(`ankacluster drill --scenario kill --rate 50 --duration 1s --heal 3s --seed 1 --html `)) || !bytes.Contains(html, []byte(`class="broken"`)) {
		t.Errorf("the page: %v\n%s", err, html)
	}
	if row.Scenario != "kill" || row.Back.Seconds() <= 0 {
		t.Errorf("no traffic came back: %s", out)
	}
}
