package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/test/systemd"
)

// The program is reached by a link, as package managers and folders of releases
// make it. An upgrade puts another version beside it, moves the link and removes
// the old one; the service starts all the same.
func TestServiceOutlivesAnUpgradeBesideIt(t *testing.T) {
	t.Parallel()
	m := systemd.Boot(t)
	dir := t.TempDir()
	program, err := os.ReadFile(program(t, "1"))
	if err != nil {
		t.Fatal(err)
	}
	put := func(path string, data []byte) string {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	link := filepath.Join(dir, "bin", "ankacluster")
	lead := func(to string) {
		_ = os.Remove(link) // the first time there is none
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	anka := put("bin/anka", []byte("#!/bin/sh\nprintf '{\"status\":\"OK\",\"body\":[]}'\n"))
	lead(put("releases/1.0.0/ankacluster", program))
	cloud := httptest.NewServer(http.HandlerFunc(fakeCloud))
	defer cloud.Close()
	env := []string{"ANKA_STATE_DIR=" + filepath.Join(dir, "state"), "ANKA_PATH=" + anka}
	if out, err := m.Run(env, link, "join", cloud.URL); err != nil {
		t.Fatalf("join: %v\n%s", err, out)
	}
	lead(put("releases/1.1.0/ankacluster", program))
	if err := os.RemoveAll(filepath.Join(dir, "releases", "1.0.0")); err != nil {
		t.Fatal(err)
	}
	m.Reboot()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(3 * time.Minute); ; <-tick.C {
		out, err := m.Run(env, link, "status")
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			unit, _ := m.Run(nil, "systemctl", "cat", "ankacluster.service")
			t.Fatalf("the agent is not back: %v: %s\n%s", err, out, unit)
		}
	}
	if out, err := m.Run(env, link, "disjoin"); err != nil {
		t.Errorf("disjoin: %v\n%s", err, out)
	}
}
