package launchd

import (
	"encoding/xml"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

var renderCases = map[string]Config{
	"agent": {
		Name:        "ankacluster",
		Description: "node agent of the build cloud",
		Executable:  "/usr/local/bin/ankacluster",
		Arguments:   []string{"agent", "--state-dir", "/var/lib/ankacluster"},
	},
	"controller": {
		Name:             "anka-controller",
		Description:      "controller of the build cloud",
		Executable:       "/usr/local/bin/anka-controller",
		Environment:      map[string]string{"ANKA_LISTEN_ADDR": ":8090", "ANKA_ETCD_ENDPOINTS": "10.0.1.4:2379,10.0.1.5:2379"},
		WorkingDirectory: "/var/lib/anka-controller",
		User:             "anka",
		LogDir:           "/var/log/anka",
		RestartDelay:     2 * time.Second,
		StopTimeout:      15 * time.Second,
	},
	"registry": {
		Name: "anka-registry", Description: "registry of the build cloud", Executable: "/usr/local/bin/anka-registry",
		Arguments: []string{"--base-path=/srv/templates"}, Writable: []string{"/srv/templates", "/var/log/my registry"},
	},
	"awkward": {
		Name:        "awkward",
		Description: "100% <odd> & \"quoted\"",
		Executable:  "/opt/my tools/$HOME/run",
		Arguments:   []string{"", "two words", `back\slash "quote"`, "50%", "$USER", "ünïcode"},
		Environment: map[string]string{"PATH": "/bin", "MESSAGE": `say "50%" of <x> & \y`},
	},
}

func TestDefinitionsAreAsReviewed(t *testing.T) {
	for name, cfg := range renderCases {
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for suffix, render := range map[string]func(Config) (string, error){".plist": renderPlist, ".service": renderUnit} {
			got, err := render(cfg)
			if err != nil {
				t.Errorf("%s%s: %v", name, suffix, err)
				continue
			}
			golden := filepath.Join("testdata", name+suffix)
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", golden, diff)
			}
		}
	}
}

// The plist is read back by a parser, because a golden file shows what was
// written and not that launchd can read it.
func TestPlistCarriesEveryArgument(t *testing.T) {
	cfg := renderCases["awkward"]
	text, err := renderPlist(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	dec := xml.NewDecoder(strings.NewReader(text))
	inProgram, depth := false, 0
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("the plist is not XML: %v", err)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			depth++
			if tok.Name.Local != "key" && tok.Name.Local != "string" {
				continue
			}
			var s string
			if err := dec.DecodeElement(&s, &tok); err != nil {
				t.Fatal(err)
			}
			depth--
			if tok.Name.Local == "key" {
				inProgram = s == "ProgramArguments"
			} else if inProgram {
				words = append(words, s)
			}
		case xml.EndElement:
			depth--
			if tok.Name.Local == "array" {
				inProgram = false
			}
		}
	}
	if diff := cmp.Diff(append([]string{cfg.Executable}, cfg.Arguments...), words); diff != "" {
		t.Errorf("ProgramArguments (-want +got):\n%s", diff)
	}
	if depth != 0 {
		t.Errorf("the plist ends at depth %d", depth)
	}
}

func TestBadConfigIsNamed(t *testing.T) {
	good := renderCases["agent"]
	for want, change := range map[string]func(*Config){
		`service name ""`:     func(c *Config) { c.Name = "" },
		`service name "../x"`: func(c *Config) { c.Name = "../x" },
		`service executable "ankacluster" must be an absolute`:   func(c *Config) { c.Executable = "ankacluster" },
		`service executable "/a\"b" must not contain quotes`:     func(c *Config) { c.Executable = `/a"b` },
		`service working directory "here" must be an absolute`:   func(c *Config) { c.WorkingDirectory = "here" },
		`service log directory "log" must be an absolute`:        func(c *Config) { c.LogDir = "log" },
		`service description "x\\" must not end in a backslash`:  func(c *Config) { c.Description = `x\` },
		`service working directory "/x\\" must not end in a`:     func(c *Config) { c.WorkingDirectory = `/x\` },
		`service user "x\\" must not end in a`:                   func(c *Config) { c.User = `x\` },
		`service writable directory "here" must be an absolute`:  func(c *Config) { c.Writable = []string{"here"} },
		`service restart delay 1.5s must be whole seconds`:       func(c *Config) { c.RestartDelay = 1500 * time.Millisecond },
		`service stop timeout -1s must be whole seconds`:         func(c *Config) { c.StopTimeout = -time.Second },
		`service argument "a\nb" must not contain control`:       func(c *Config) { c.Arguments = []string{"a\nb"} },
		`service argument "{{x}}" must not contain {{`:           func(c *Config) { c.Arguments = []string{"{{x}}"} },
		`service environment variable "A B" must be a name`:      func(c *Config) { c.Environment = map[string]string{"A B": "1"} },
		`service environment variable K "\x00" must not contain`: func(c *Config) { c.Environment = map[string]string{"K": "\x00"} },
	} {
		cfg := good
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate() = %v, want it to say %q", err, want)
		}
	}
}

func TestSystemdShowIsUnderstood(t *testing.T) {
	for out, want := range map[string]Status{
		"LoadState=loaded\nActiveState=active\nMainPID=42\nNRestarts=3\nUnitFileState=enabled\n":    {State: Running, PID: 42, Restarts: 3, Enabled: true},
		"LoadState=loaded\nActiveState=activating\nMainPID=0\nNRestarts=1\nUnitFileState=enabled\n": {State: Running, Restarts: 1, Enabled: true},
		"LoadState=loaded\nActiveState=inactive\nMainPID=0\nUnitFileState=disabled\n":               {State: Stopped},
		"LoadState=loaded\nActiveState=failed\nMainPID=0\nUnitFileState=enabled\n":                  {State: Failed, Enabled: true},
		"LoadState=not-found\nActiveState=inactive\nMainPID=0\nUnitFileState=\n":                    {State: NotInstalled},
	} {
		if got, err := parseSystemdShow(out); got != want || err != nil {
			t.Errorf("parseSystemdShow(%q) = %+v, %v, want %+v", out, got, err, want)
		}
	}
	if st, err := parseSystemdShow("LoadState=masked\nActiveState=inactive\n"); err == nil || !strings.Contains(err.Error(), "masked") {
		t.Errorf("parseSystemdShow of a masked unit = %+v, %v; want an error that says so", st, err)
	}
}
