package runtimes

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ankacluster/ankacluster/agent/macreport"
)

// report runs `ankacluster mac-report` over the fakes.
func report(t *testing.T, env ...string) string {
	t.Helper()
	m := newAnka(t, env...)
	m.run("create", "template", "--size", "64K", "-t", "v1")
	out := filepath.Join(t.TempDir(), "report")
	cmd := exec.Command(filepath.Join(binDir, "ankacluster"), "mac-report", "--vm", "template", "--out", out, "--replace", "template")
	cmd.Env = append(append(os.Environ(), m.env...), "ANKA_PATH="+m.fake, "TART_PATH="+filepath.Join(binDir, "faketart"), "TART_HOME="+t.TempDir())
	if data, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mac-report: %v\n%s", err, data)
	} else if !strings.Contains(string(data), "commands recorded in "+out) {
		t.Errorf("mac-report: %s", data)
	}
	if left := m.run("-j", "list"); strings.Contains(left, "ankacluster-report") {
		t.Errorf("left on the Mac: %s", left)
	}
	return out
}

// A report of the stand-ins has every step, without the words that were to go, and
// none of its answers differs in form from another such report's.
func TestMacReport(t *testing.T) {
	one := report(t)
	steps, err := macreport.Read(one)
	check(t, "read", err)
	ended := make(map[string]int)
	for _, s := range steps {
		_, name, _ := strings.Cut(s.Name, "-")
		ended[name] = s.ExitCode
	}
	for name, want := range map[string]int{
		"anka-version": 0, "anka-show-none": 1, "push": 0, "pull": 0, "pull-no-tag": 1, "start-again": 1, "run-exit-7": 7, "run-stdin": 3, "delete-last-tag": 0, "tart-version": 0,
	} {
		if got, ok := ended[name]; !ok || got != want {
			t.Errorf("%s: ended with %d (%v), want %d", name, got, ok, want)
		}
	}
	for _, file := range []string{"manifest-v1.json", "config-v2.json", "registry-requests.txt"} {
		if _, err := os.Stat(filepath.Join(one, file)); err != nil {
			t.Error(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(one, "*"))
	check(t, "glob", err)
	for _, f := range files {
		data, err := os.ReadFile(f)
		check(t, "read", err)
		if strings.Contains(string(data), `"template"`) {
			t.Errorf("%s has a word that was to be replaced", f)
		}
	}
	two := report(t)
	found, err := macreport.Differences(one, two)
	check(t, "compare", err)
	if len(found) != 0 {
		t.Errorf("two reports of one stand-in differ: %q", found)
	}
	// The other answers are found out.
	found, err = macreport.Differences(report(t, otherAnka), two)
	check(t, "compare", err)
	for _, want := range []string{"start-again: ended with 0", "port-host: ended with 30", "show-running: the stand-in has .body.vnc_port"} {
		if !strings.Contains(strings.Join(found, "\n"), want) {
			t.Errorf("differences lack %q: %q", want, found)
		}
	}
}

// What real Macs answered has the form of what the stand-ins answer. Reports lie in
// test/fakeanka/testdata/real, one folder each, as mac-report writes them.
func TestStandInsAnswerAsRealMacs(t *testing.T) {
	reals, err := filepath.Glob(filepath.Join("..", "fakeanka", "testdata", "real", "*", "steps.json"))
	check(t, "glob", err)
	if len(reals) == 0 {
		t.Skip("there is no report of a real Mac yet: see docs/operators/macs.md")
	}
	fake := report(t)
	for _, real := range reals {
		found, err := macreport.Differences(filepath.Dir(real), fake)
		check(t, "compare", err)
		for _, f := range found {
			t.Errorf("%s: %s", filepath.Dir(real), f)
		}
	}
}
