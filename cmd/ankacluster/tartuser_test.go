package main

import (
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ankacluster/ankacluster/agent/state"
)

// D1: whom tart runs as is asked for, or was before, or is who is logged in at the
// screen; where it keeps its VMs follows.
func TestWhomTartRunsAs(t *testing.T) {
	t.Setenv("TART_HOME", "")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	console := func(name string) func() (string, error) { return func() (string, error) { return name, nil } }
	root := host{goos: "darwin", euid: 0, console: console("nobody")}
	for name, c := range map[string]struct {
		asked, before string
		host          host
		user, home    string
		says          string // of an error
	}{
		"logged in":       {"", "", root, "nobody", nobody.HomeDir, ""},
		"asked for":       {"nobody", "", host{"darwin", 0, console("root")}, "nobody", nobody.HomeDir, ""},
		"as before":       {"", "nobody", host{"darwin", 0, console("root")}, "nobody", nobody.HomeDir, ""},
		"nobody there":    {"", "", host{"darwin", 0, console("root")}, "", "", "nobody is logged in at this Mac's screen"},
		"cannot be told":  {"", "", host{"darwin", 0, func() (string, error) { return "", errors.New("no") }}, "", "", "--tart-user NAME"},
		"root, for Linux": {"root", "", root, "root", "/root", ""},
		"no such user":    {"there-is-none", "", root, "", "", "no such user"},
		"not root":        {"nobody", "", host{"darwin", 12345, nil}, "", "", "only root can run tart as nobody"},
		"this user":       {"", "", host{"darwin", 12345, nil}, "", me.HomeDir, ""},
		"another system":  {"", "", host{"linux", 0, nil}, "", me.HomeDir, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := state.Config{TartUser: c.asked}
			said, err := placeTart(&cfg, state.Config{TartUser: c.before}, c.host)
			if c.says != "" {
				var out strings.Builder
				printError(&out, err)
				if err == nil || !strings.Contains(out.String(), c.says) {
					t.Errorf("got %v, want an error with %q", err, c.says)
				}
				return
			}
			if want := filepath.Join(c.home, ".tart"); err != nil || cfg.TartUser != c.user || cfg.TartHome != want || !strings.Contains(said, want) {
				t.Errorf("got user %q, home %q, %q, %v; want %q and %q", cfg.TartUser, cfg.TartHome, said, err, c.user, want)
			}
		})
	}
	home := t.TempDir()
	t.Setenv("TART_HOME", home)
	cfg := state.Config{TartUser: "nobody"}
	if _, err := placeTart(&cfg, state.Config{}, root); os.Getuid() == 65534 || err == nil || !strings.Contains(err.Error(), "does not belong to nobody") {
		t.Errorf("a directory of another user's: %v", err)
	}
}
