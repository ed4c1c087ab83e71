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
	if err == nil || !strings.Contains(err.Error(), "line 2: there is no setting ANKA_A") {
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

func TestNamesOfTheEnvironmentAreChecked(t *testing.T) {
	t.Parallel()
	table := []Setting{{Env: "ANKA_ENABLE_AUTH"}, {Env: "ANKA_LOG_DIR"}, {Env: "ANKA_CA_CERT", Aliases: []string{"ANKA_ROOT_CERT"}}, {Env: "ANKA_METRICS_PORT"}}
	for _, tc := range []struct {
		variable, strange, err string
	}{
		{"ANKA_ENABLE_AUTH=true", "", ""},
		{"ANKA_ROOT_CERT=x", "", ""},
		{"ANKA_ENABLE_AUHT=true", "", "ANKA_ENABLE_AUHT is not a setting; is ANKA_ENABLE_AUTH meant?"},
		{"ANKA_ENABLE_AUHT=", "", ""},
		{"ANKA_LOGS_DIR=/var/log", "", ""}, // the other server's
		{"ANKA_BACKEND_S3_BUCKET=x", "ANKA_BACKEND_S3_BUCKET", ""},
		{"ANKA_CONTROLLER_SERVICE_PORT_HTTP=80", "", ""},
		{"ANKA_CONTROLLER_PORT_80_TCP_ADDR=10.0.0.1", "", ""},
	} {
		strange, err := CheckNames([]string{tc.variable, "HOME=/"}, table)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if strings.Join(strange, " ") != tc.strange || text != tc.err {
			t.Errorf("%s: strange %q, error %q; want %q, %q", tc.variable, strange, text, tc.strange, tc.err)
		}
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

func TestSettingsWithoutEffectAreAcceptedAndNamed(t *testing.T) {
	t.Parallel()
	table := []NoEffect{{Env: "ANKA_OLD_DIR", Reason: "there is one directory"}, {Env: "ANKA_OLD_SWITCH", IsBool: true, Reason: "it is always on"}}
	given, errs := Load(Accepted("group", table), vars(map[string]string{"old-dir": "any value"}), vars(nil))
	if len(errs) > 0 {
		t.Fatalf("got %v, want any value to be accepted", errs)
	}
	got := Ineffective(given, table)
	if len(got) != 1 || got[0] != "--old-dir has no effect: there is one directory" {
		t.Errorf("got %q, want the one that was given, with its reason", got)
	}
}
