package server

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestLogsAndEventsAreAppended(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	a, b := newRegistry(t, cfg), newRegistry(t, cfg)
	var wg sync.WaitGroup
	for _, g := range []*registry{a, b} {
		wg.Go(func() {
			for range 50 {
				if err := g.client().SendEvent(t.Context(), map[string]string{"type": "apiAction", "pad": strings.Repeat("x", 500)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	data, err := os.ReadFile(filepath.Join(cfg.Root, "files", "central-logs", "event", "event.log"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	for _, l := range lines {
		if len(l) != len(lines[0]) {
			t.Fatalf("torn line %q", l)
		}
	}
	if len(lines) != 100 {
		t.Errorf("got %d events, want 100", len(lines))
	}
	if err := a.client().SendLog(t.Context(), "node 1/agent.log", strings.NewReader("one\n")); err != nil {
		t.Fatal(err)
	}
	if err := b.client().SendLog(t.Context(), "node 1/agent.log", strings.NewReader("two\n")); err != nil {
		t.Fatal(err)
	}
	if got := a.want(200, "GET", "/registry/logs/node%201/agent.log", nil); string(got.body) != "one\ntwo\n" {
		t.Errorf("log: got %q", got.body)
	}
	if got := a.want(206, "GET", "/registry/logs/node%201/agent.log", nil, "Range", "bytes=4-"); string(got.body) != "two\n" {
		t.Errorf("rest of the log: got %q", got.body)
	}
	if logs, err := b.client().Logs(t.Context()); err != nil || len(logs) != 2 {
		t.Errorf("logs: got %+v, %v", logs, err)
	}
	checkArchive(t, a.want(200, "GET", "/registry/log-archive", nil).body)
}

func checkArchive(t *testing.T, data []byte) {
	t.Helper()
	gz, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	tr := tar.NewReader(gz)
	var names []string
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if got := strings.Join(names, " "); got != "central-logs/event/event.log central-logs/node 1/agent.log" {
		t.Errorf("archive: got %s", got)
	}
}

func TestFilesStayInTheirDirectory(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	g := newRegistry(t, cfg)
	if err := g.client().UploadFile(t.Context(), "logs/"+vmUUID+"/vm.log", strings.NewReader("boom")); err != nil {
		t.Fatal(err)
	}
	if got := g.want(200, "GET", "/registry/files/logs/"+vmUUID+"/vm.log", nil); string(got.body) != "boom" {
		t.Errorf("got %q", got.body)
	}
	if err := os.Symlink(cfg.Root, filepath.Join(cfg.Root, "files", "out")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"..%2findex.json", "%2e%2e/index.json", "out/journal/x", "a/%2e%2e/%2e%2e/x"} {
		for _, method := range []string{"GET", "PUT"} {
			req, err := http.NewRequest(method, g.http.URL, strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			req.URL.Opaque = "/registry/files/" + path
			resp, err := g.http.Client().Transport.RoundTrip(req) // a redirect to a clean path is fine too
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode < 300 {
				t.Errorf("%s %s: got %d", method, path, resp.StatusCode)
			}
		}
	}
	g.want(400, "GET", "/registry/files/out/x", nil)
	if _, err := os.Stat(filepath.Join(cfg.Root, "journal", "x")); err == nil {
		t.Error("a file was written outside")
	}
}

// Requirement R12: retention works, unknown files are left alone, and missing
// directories are made.
func TestR12LogRetention(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	cfg.MaxLogSize = 100
	cfg.RotateLogFilesEndOfDay = true
	g := newRegistry(t, cfg)
	for range 3 {
		if err := g.client().SendLog(t.Context(), "n.log", strings.NewReader(strings.Repeat("x", 59)+"\n")); err != nil {
			t.Fatal(err)
		}
	}
	logs, err := g.client().Logs(t.Context())
	if err != nil || len(logs) != 3 {
		t.Fatalf("after three logs of 60 bytes with a limit of 100: got %+v, %v", logs, err)
	}
	dir := filepath.Join(cfg.Root, "files", "central-logs")
	old := time.Now().Add(-cfg.KeepLogsFor - time.Hour)
	for _, name := range []string{"old.log", "stranger.dat"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	g.srv.logs.tidy(time.Now())
	if _, err := os.Stat(filepath.Join(dir, "old.log")); err == nil {
		t.Error("an old log is still there")
	}
	if _, err := os.Stat(filepath.Join(dir, "stranger.dat")); err != nil {
		t.Error("an unknown file was removed")
	}
	if err := os.RemoveAll(filepath.Join(cfg.Root, "files")); err != nil {
		t.Fatal(err)
	}
	if err := g.client().SendLog(t.Context(), "n.log", strings.NewReader("x\n")); err != nil {
		t.Errorf("after the directory was removed: %v", err)
	}
}
