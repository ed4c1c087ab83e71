package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/test/systemd"
)

// TestJoinInstallsAServiceThatComesBack joins, kills, reboots, joins again and
// disjoins under a real systemd (A4, A5, A6).
func TestJoinInstallsAServiceThatComesBack(t *testing.T) {
	t.Parallel()
	m := systemd.Boot(t)
	dir := t.TempDir()
	exe := program(t, "1")
	anka := filepath.Join(dir, "anka")
	if err := os.WriteFile(anka, []byte("#!/bin/sh\nprintf '{\"status\":\"OK\",\"body\":[]}'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cloud := httptest.NewServer(http.HandlerFunc(fakeCloud))
	defer cloud.Close()
	state := filepath.Join(dir, "state dir") // with a space, as on macOS
	do := func(args ...string) string {
		t.Helper()
		out, err := m.Run([]string{"ANKA_STATE_DIR=" + state, "ANKA_PATH=" + anka}, exe, args...)
		if err != nil {
			t.Fatalf("ankacluster %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	// status waits for an agent that answers, and returns its process and node.
	status := func(not int) (pid int, node string) {
		t.Helper()
		deadline := time.Now().Add(3 * time.Minute)
		for {
			out, err := m.Run([]string{"ANKA_STATE_DIR=" + state}, exe, "status", "--json")
			var s struct {
				PID  int    `json:"pid"`
				Node string `json:"node_id"`
			}
			if err == nil && json.Unmarshal([]byte(out), &s) == nil && s.PID != not {
				return s.PID, s.Node
			}
			if time.Now().After(deadline) {
				t.Fatalf("no agent but %d answers: %v\n%s", not, err, out)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}

	out := do("join", cloud.URL)
	if !strings.Contains(out, "starting the agent (as the service ankacluster)") || !strings.Contains(out, "joined as node") {
		t.Fatalf("join printed\n%s", out)
	}
	first, node := status(0)
	if out, _ := m.Run(nil, "systemctl", "show", "-P", "MainPID", "ankacluster.service"); strings.TrimSpace(out) != strconv.Itoa(first) {
		t.Errorf("systemd's process is %q, the agent's %d", out, first)
	}

	if out, err := m.Run(nil, "kill", "-9", strconv.Itoa(first)); err != nil {
		t.Fatalf("kill: %v %s", err, out)
	}
	second, again := status(first)
	if again != node {
		t.Errorf("node %s after kill -9, want %s", again, node)
	}

	m.Reboot()
	if _, again := status(0); again != node {
		t.Errorf("node %s after a reboot, want %s", again, node)
	}
	if out := do("join", cloud.URL); !strings.Contains(out, "re-joined as node "+node) {
		t.Errorf("second join printed\n%s", out)
	}

	// A user who wants no service gets none, also when there was one.
	if out := do("join", "--no-service", cloud.URL); !strings.Contains(out, "in the background") {
		t.Errorf("join --no-service printed\n%s", out)
	}
	if out, _ := m.Run(nil, "systemctl", "show", "-P", "LoadState", "ankacluster.service"); strings.TrimSpace(out) != "not-found" {
		t.Errorf("the service is %q after join --no-service, want it removed", out)
	}
	do("join", cloud.URL)
	last, _ := status(second)
	do("disjoin")
	if out, err := m.Run(nil, "kill", "-0", strconv.Itoa(last)); err == nil {
		t.Errorf("process %d is alive after disjoin %s", last, out)
	}
	if out, _ := m.Run(nil, "systemctl", "show", "-P", "LoadState", "ankacluster.service"); strings.TrimSpace(out) != "not-found" {
		t.Errorf("the service is %q after disjoin, want it removed", out)
	}
	do("disjoin") // a repeat is no error
}
