package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestReadyFindsItsController asks without an address: where the settings, the
// package's file, or the last start say, and it tells which.
func TestReadyFindsItsController(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	addr := strings.TrimPrefix(s.URL, "http://")
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	none := filepath.Join(dir, "none")
	started := &config{DataDir: filepath.Join(dir, "data"), ListenAddr: addr}
	if err := os.Mkdir(started.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	started.noteAddress()
	for _, tt := range []struct {
		name, packaged string
		args           []string
		out, err       string
	}{
		{"a URL", none, []string{s.URL}, "ready\n", ""},
		{"a flag", none, []string{"--listen-addr", addr}, "ready at " + s.URL + "\n", ""},
		{"the package's settings", file("packaged", "ANKA_LISTEN_ADDR="+addr+"\n"), nil, "ready at " + s.URL + "\n", ""},
		{"the last start", none, []string{"--data-dir", started.DataDir}, "ready at " + s.URL + "\n", ""},
		{"the package's settings, and nothing there", file("wrong", "ANKA_LISTEN_ADDR=127.0.0.1:1\n"), nil, "", "asked http://127.0.0.1:1, as " + filepath.Join(dir, "wrong") + " says: "},
		{"a broken file", file("broken", "ANKA_LISTEN=1\n"), nil, "", "there is no setting ANKA_LISTEN"},
		{"nothing", none, []string{"--data-dir", dir}, "", "asked http://127.0.0.1, which is the default; pass the controller's own --standalone, --listen-addr or --data-dir: "},
	} {
		var out bytes.Buffer
		nothing := func(string) (string, bool) { return "", false }
		app := &cli.App{Commands: []*cli.Command{readyCommand(nothing, &out, tt.packaged)}, Writer: &out, ErrWriter: &out, ExitErrHandler: func(*cli.Context, error) {}}
		err := app.RunContext(t.Context(), append([]string{program, "ready"}, tt.args...))
		if out.String() != tt.out || tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: got %q and %v, want %q and %q", tt.name, out.String(), err, tt.out, tt.err)
		}
	}
}
