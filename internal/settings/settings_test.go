package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func vars(m map[string]string) Lookup {
	return func(name string) (string, bool) { v, ok := m[name]; return v, ok }
}

func TestOrderOfSourcesAndEmptyValues(t *testing.T) {
	t.Parallel()
	var d time.Duration
	table := []Setting{{Env: "ANKA_DRAIN_DELAY", Aliases: []string{"ANKA_DRAIN"}, Default: "1s", Parse: Duration(&d)}}
	for _, tt := range []struct {
		name      string
		flag, env map[string]string
		want      time.Duration
		source    string
	}{
		{"default", nil, nil, time.Second, ""},
		{"variable", nil, map[string]string{"ANKA_DRAIN_DELAY": "2s", "ANKA_DRAIN": "3s"}, 2 * time.Second, "ANKA_DRAIN_DELAY"},
		{"empty variable", nil, map[string]string{"ANKA_DRAIN_DELAY": ""}, time.Second, ""},
		{"empty variable before its alias", nil, map[string]string{"ANKA_DRAIN_DELAY": "", "ANKA_DRAIN": "3s"}, 3 * time.Second, "ANKA_DRAIN"},
		{"flag", map[string]string{"drain-delay": "4s"}, map[string]string{"ANKA_DRAIN_DELAY": "2s"}, 4 * time.Second, "--drain-delay"},
		{"empty flag", map[string]string{"drain-delay": ""}, map[string]string{"ANKA_DRAIN_DELAY": "2s"}, time.Second, ""},
	} {
		given, errs := Load(table, vars(tt.flag), vars(tt.env))
		if len(errs) > 0 || d != tt.want || given["ANKA_DRAIN_DELAY"].Name != tt.source {
			t.Errorf("%s: got %v from %q, %v; want %v from %q", tt.name, d, given["ANKA_DRAIN_DELAY"].Name, errs, tt.want, tt.source)
		}
	}
}

func TestFileStandsBehindTheEnvironment(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte("# a comment\nANKA_A=1\nANKA_B=2\nANKA_C=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	table := []Setting{{Env: "ANKA_A"}, {Env: "ANKA_B"}, {Env: "ANKA_C"}}
	env, err := WithFile(file, table, vars(map[string]string{"ANKA_A": "", "ANKA_B": "9"}))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"ANKA_A": "1", "ANKA_B": "9", "ANKA_C": ""} {
		if got, _ := env(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	_, err = WithFile(file, table[1:], vars(nil))
	if err == nil || !strings.Contains(err.Error(), "line 2: there is no setting ANKA_A; is ANKA_B meant?") {
		t.Errorf("unknown name: got %v", err)
	}
}

func TestMisspeltVariables(t *testing.T) {
	t.Parallel()
	known := map[string]bool{"ANKA_ENABLE_AUTH": true, "ANKA_QUOTA": true}
	got := Misspelt([]string{"ANKA_ENABLE_AUHT=true", "ANKA_QUOTA=1", "ANKA_QUTA=", "PATH=/bin", "ANKA_BACKEND_S3_BUCKET=x"}, known)
	if len(got) != 2 || got[0] != (Misspelling{"ANKA_ENABLE_AUHT", "ANKA_ENABLE_AUTH"}) || got[1] != (Misspelling{"ANKA_BACKEND_S3_BUCKET", ""}) {
		t.Errorf("got %+v", got)
	}
}

func TestEmptyVariablesAreTakenAway(t *testing.T) {
	t.Setenv("ANKA_STATE_DIR", "")
	t.Setenv("ANKA_PATH", "/bin/anka")
	UnsetEmpty()
	if v, set := os.LookupEnv("ANKA_STATE_DIR"); set {
		t.Errorf("ANKA_STATE_DIR is still set, to %q", v)
	}
	if os.Getenv("ANKA_PATH") != "/bin/anka" {
		t.Error("ANKA_PATH is lost")
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "500": 500, "1GiB": 1 << 30, "2 TB": 2e12, "3kb": 3000, "5MiB": 5 << 20} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "-1", "1XiB", "1.5GiB", "99999999TiB", "GiB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q: got %d, want an error", text, got)
		}
	}
}
