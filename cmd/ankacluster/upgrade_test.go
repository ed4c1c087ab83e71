package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi"
)

// upgradingCloud offers upgrades to the one node of a test.
type upgradingCloud struct {
	mu      sync.Mutex
	program []byte
	task    *controllerapi.Task
	results map[controllerapi.TaskID]controllerapi.ReportRequest
}

func (c *upgradingCloud) offer(id controllerapi.TaskID, version string, content []byte) {
	sum := sha256.Sum256(content)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.program = content
	c.task = &controllerapi.Task{ID: id, Kind: controllerapi.TaskUpgrade, Attempt: 1,
		Upgrade: &controllerapi.UpgradeTask{Version: version, Path: "/pkg/AnkaAgentArm.pkg", SHA256: hex.EncodeToString(sum[:])}}
}

func (c *upgradingCloud) result(id controllerapi.TaskID) controllerapi.ReportRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.results[id]
}

func (c *upgradingCloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := func(body any) {
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "OK", "message": "", "body": body}) // the caller went away
	}
	switch r.URL.Path {
	case "/pkg/AnkaAgentArm.pkg":
		c.mu.Lock()
		defer c.mu.Unlock()
		_, _ = w.Write(c.program) // the caller went away
	case controllerapi.PathAgentReserve:
		var req controllerapi.ReserveRequest
		if json.NewDecoder(r.Body).Decode(&req) == nil && slices.Contains(req.Kinds, controllerapi.TaskUpgrade) {
			c.mu.Lock()
			t := c.task
			c.mu.Unlock()
			if t != nil && c.result(t.ID).Phase == "" {
				answer(controllerapi.ReserveResponse{Task: t})
				return
			}
		}
		fakeCloud(w, r)
	case controllerapi.PathAgentReport:
		var req controllerapi.ReportRequest
		if json.NewDecoder(r.Body).Decode(&req) == nil && req.Phase != controllerapi.PhaseProgress {
			c.mu.Lock()
			c.results[req.TaskID] = req
			c.mu.Unlock()
		}
		answer(controllerapi.ReportResponse{})
	default:
		fakeCloud(w, r)
	}
}

// TestUpgradeEndsInTheNewVersionOrTheOld runs real agents of several versions
// (A3, A4).
func TestUpgradeEndsInTheNewVersionOrTheOld(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	compile := func(version string) string {
		out := filepath.Join(dir, "ankacluster-"+version)
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out, "-ldflags", "-X github.com/ankacluster/ankacluster/internal/buildinfo.Version="+version, ".")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, text)
		}
		return out
	}
	exe, anka := compile("1"), filepath.Join(dir, "anka")
	second, err := os.ReadFile(compile("2"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(anka, []byte("#!/bin/sh\nprintf '{\"status\":\"OK\",\"body\":[]}'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cloud := &upgradingCloud{results: make(map[controllerapi.TaskID]controllerapi.ReportRequest)}
	srv := httptest.NewServer(cloud)
	defer srv.Close()
	do := func(args ...string) (string, error) {
		cmd := exec.Command(exe, append(args, "--force-no-sudo")...)
		cmd.Env = append(os.Environ(), "ANKA_STATE_DIR="+filepath.Join(dir, "state"), "ANKA_PATH="+anka, "ANKA_UPGRADE_PROVE_WITHIN=5s")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := do("join", srv.URL); err != nil {
		t.Fatalf("join: %v\n%s", err, out)
	}
	defer func() {
		if out, err := do("disjoin"); err != nil {
			t.Errorf("disjoin: %v\n%s", err, out)
		}
	}()
	// runs waits for an agent of a version, and returns its process.
	runs := func(version string) int {
		t.Helper()
		deadline := time.Now().Add(2 * time.Minute)
		for {
			out, err := do("status", "--json")
			var s struct {
				PID    int `json:"pid"`
				Config struct {
					Version string `json:"version"`
				} `json:"config"`
			}
			if err == nil && json.Unmarshal([]byte(out), &s) == nil && s.Config.Version == version {
				return s.PID
			}
			if time.Now().After(deadline) {
				log, _ := os.ReadFile(filepath.Join(dir, "state", "logs", "agent.log")) // only for the message
				t.Fatalf("no agent of version %s: %v\n%s\n%s", version, err, out, log)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	ended := func(id controllerapi.TaskID) controllerapi.ReportRequest {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); cloud.result(id).Phase == ""; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("task %s has no result", id)
			}
		}
		return cloud.result(id)
	}
	first := runs("1")

	cloud.offer("x.1.node", "2", second)
	if r := ended("x.1.node"); r.Phase != controllerapi.PhaseDone {
		t.Fatalf("upgrade ended with %s: %s", r.Phase, r.Message)
	}
	if pid := runs("2"); pid != first {
		t.Errorf("process %d became %d: there may have been two agents at once", first, pid)
	}

	// A package that says the right version and then does not work.
	cloud.offer("x.2.node", "3", []byte("#!/bin/sh\n[ \"$1\" = --version ] && echo ankacluster 3 && exit\nexit 1\n"))
	if r := ended("x.2.node"); r.Phase != controllerapi.PhaseFailed || !strings.Contains(r.Message, "rolled back") {
		t.Errorf("upgrade to a broken version ended with %s: %s; want it failed and rolled back", r.Phase, r.Message)
	}
	runs("2")

	// A package that is not what was announced changes nothing, and does not
	// keep later ones from working (A3).
	cloud.offer("x.3.node", "4", []byte("#!/bin/sh\necho ankacluster 5\n"))
	if r := ended("x.3.node"); r.Phase != controllerapi.PhaseFailed || !strings.Contains(r.Message, "version 4 was announced") {
		t.Errorf("upgrade to a wrong package ended with %s: %s", r.Phase, r.Message)
	}
	runs("2")
}
