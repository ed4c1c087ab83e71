package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"aead.dev/minisign"

	"github.com/ankacluster/ankacluster/agent"
	"github.com/ankacluster/ankacluster/agent/socket"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/agent/upgrade"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// upgradingCloud offers upgrades to the one node of a test.
type upgradingCloud struct {
	key       minisign.PrivateKey // what it offers is signed with it
	mu        sync.Mutex
	program   []byte
	signature []byte
	task      *controllerapi.Task
	results   map[controllerapi.TaskID]controllerapi.ReportRequest
	version   string        // of the agent that registered last
	half      chan struct{} // closed to let downloads go on, nil when they do
	stuck     bool          // half of a download was sent
}

// stall makes downloads stop half way.
func (c *upgradingCloud) stall(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.half != nil {
		close(c.half)
		c.half = nil
	}
	if c.stuck = false; on {
		c.half = make(chan struct{})
	}
}

func (c *upgradingCloud) stalled() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.stuck }

func (c *upgradingCloud) registered() string { c.mu.Lock(); defer c.mu.Unlock(); return c.version }

// download sends the program, or half of it first.
func (c *upgradingCloud) download(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	content, half := c.program, c.half
	c.mu.Unlock()
	if half == nil {
		_, _ = w.Write(content) // the caller went away
		return
	}
	_, _ = w.Write(content[:len(content)/2])
	_ = http.NewResponseController(w).Flush()
	c.mu.Lock()
	c.stuck = c.half == half
	c.mu.Unlock()
	select {
	case <-half:
	case <-r.Context().Done():
	}
}

func (c *upgradingCloud) offer(id controllerapi.TaskID, version string, content []byte) {
	sum, signed := sha256.Sum256(content), minisign.NewReader(bytes.NewReader(content))
	_, _ = io.Copy(io.Discard, signed)
	statement := upgrade.Statement{Version: version, OS: runtime.GOOS, Arch: runtime.GOARCH, Size: int64(len(content)), Downgrade: true}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.program, c.signature = content, signed.SignWithComments(c.key, statement.String(), "a test's key")
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
		c.download(w, r)
	case "/pkg/AnkaAgentArm.pkg" + upgrade.SignatureSuffix:
		c.mu.Lock()
		defer c.mu.Unlock()
		_, _ = w.Write(c.signature) // the caller went away
	case controllerapi.PathAgentRegister:
		data, _ := io.ReadAll(r.Body) // cut short it decodes to nothing
		var req controllerapi.RegisterRequest
		if json.Unmarshal(data, &req) == nil {
			c.mu.Lock()
			c.version = req.Facts.AgentVersion
			c.mu.Unlock()
		}
		fakeCloud(w, r)
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

// built holds programs of this package by version, for all tests.
var built struct {
	mu    sync.Mutex
	dir   string
	paths map[string]string
}

// program returns a program of a version. Each is compiled once.
func program(t *testing.T, version string) string {
	t.Helper()
	built.mu.Lock()
	defer built.mu.Unlock()
	if path := built.paths[version]; path != "" {
		return path
	}
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "ankacluster-test-")
		if err != nil {
			t.Fatal(err)
		}
		built.dir, built.paths = dir, make(map[string]string)
	}
	path := filepath.Join(built.dir, version)
	cmd := exec.Command("go", "build", "-o", path, "-ldflags", "-X github.com/ankacluster/ankacluster/internal/buildinfo.Version="+version, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, text)
	}
	built.paths[version] = path
	return path
}

// upgraded is a node with an installed program, and a cloud that upgrades it.
type upgraded struct {
	t     *testing.T
	dir   string
	exe   string // the installed program
	env   []string
	cloud *upgradingCloud
	url   string
}

func newUpgraded(t *testing.T, proveWithin string) *upgraded {
	t.Helper()
	dir := t.TempDir()
	_, key, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	u := &upgraded{t: t, dir: dir, exe: filepath.Join(dir, "ankacluster"), cloud: &upgradingCloud{key: key, results: make(map[controllerapi.TaskID]controllerapi.ReportRequest)}}
	if err := os.WriteFile(u.exe, u.content("1"), 0o755); err != nil {
		t.Fatal(err)
	}
	anka := filepath.Join(dir, "anka")
	if err := os.WriteFile(anka, []byte("#!/bin/sh\nprintf '{\"status\":\"OK\",\"body\":[]}'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(u.cloud)
	t.Cleanup(srv.Close)
	u.url = srv.URL
	u.env = append(os.Environ(), "ANKA_STATE_DIR="+u.state(), "ANKA_PATH="+anka)
	u.join(proveWithin)
	t.Cleanup(func() {
		if out, err := u.do("disjoin"); err != nil {
			t.Errorf("disjoin: %v\n%s", err, out)
		}
	})
	return u
}

// join joins, also again, with that time for a new version to prove itself.
func (u *upgraded) join(proveWithin string) {
	u.t.Helper()
	u.env = append(u.env, "ANKA_UPGRADE_PROVE_WITHIN="+proveWithin) // the last one counts
	if out, err := u.do("join", u.url, "--upgrade-key", u.cloud.key.Public().(minisign.PublicKey).String()); err != nil {
		u.t.Fatalf("join: %v\n%s", err, out)
	}
}

func (u *upgraded) state() string { return filepath.Join(u.dir, "state") }

func (u *upgraded) content(version string) []byte {
	u.t.Helper()
	data, err := os.ReadFile(program(u.t, version))
	if err != nil {
		u.t.Fatal(err)
	}
	return data
}

// do calls the installed program. While another process is between fork and
// exec, a program that was just written cannot be run.
func (u *upgraded) do(args ...string) (string, error) {
	for {
		cmd := exec.Command(u.exe, append(args, "--force-no-sudo")...)
		cmd.Env = u.env
		out, err := cmd.CombinedOutput()
		if !errors.Is(err, syscall.ETXTBSY) {
			return string(out), err
		}
	}
}

// wait looks for something that other processes bring about.
func (u *upgraded) wait(what string, ok func() bool) {
	u.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(u.state(), "logs", "agent.log")) // only for the message
			u.t.Fatalf("after two minutes still not: %s\n%s", what, log)
		}
	}
}

// runs waits for a registered agent of a version, and returns its process.
func (u *upgraded) runs(version string) int {
	u.t.Helper()
	var s agent.Status
	u.wait("an agent of version "+version, func() bool {
		err := socket.Ask(u.t.Context(), state.Dir(u.state()).Socket(), "/status", &s)
		return err == nil && s.Config.Version == version && s.Registered
	})
	return s.PID
}

func (u *upgraded) ended(id controllerapi.TaskID) controllerapi.ReportRequest {
	u.t.Helper()
	u.wait("the end of task "+string(id), func() bool { return u.cloud.result(id).Phase != "" })
	return u.cloud.result(id)
}

// TestA3UpgradeEndsInTheNewVersionOrTheOld runs real agents of several versions
// (A3, A4).
func TestA3UpgradeEndsInTheNewVersionOrTheOld(t *testing.T) {
	t.Parallel()
	const ample = "10m" // for a version that works, however slow the machine is
	u := newUpgraded(t, ample)
	first := u.runs("1")
	u.cloud.offer("x.1.node", "2", u.content("2"))
	if r := u.ended("x.1.node"); r.Phase != controllerapi.PhaseDone {
		t.Fatalf("upgrade ended with %s: %s", r.Phase, r.Message)
	}
	if pid := u.runs("2"); pid != first {
		t.Errorf("process %d became %d: there may have been two agents at once", first, pid)
	}

	// A package that says the right version and then does not work.
	u.join("5s")
	u.runs("2")
	u.cloud.offer("x.2.node", "3", []byte("#!/bin/sh\n[ \"$1\" = --version ] && echo ankacluster 3 && exit\nexit 1\n"))
	if r := u.ended("x.2.node"); r.Phase != controllerapi.PhaseFailed || !strings.Contains(r.Message, "rolled back") {
		t.Errorf("upgrade to a broken version ended with %s: %s; want it failed and rolled back", r.Phase, r.Message)
	}
	u.join(ample)
	u.runs("2")

	// Packages that are not what was announced change nothing, and do not keep
	// later ones from working (A3).
	for id, p := range map[controllerapi.TaskID][2]string{
		"x.3.node": {"#!/bin/sh\necho ankacluster 5\n", "version 4 was announced"},
		"x.4.node": {"xar!\x00\x1c\x00\x01", "it is a macOS installer package"},
	} {
		u.cloud.offer(id, "4", []byte(p[0]))
		if r := u.ended(id); r.Phase != controllerapi.PhaseFailed || !strings.Contains(r.Message, p[1]) {
			t.Errorf("upgrade to a wrong package ended with %s: %s", r.Phase, r.Message)
		}
		u.runs("2")
	}
	u.cloud.offer("x.5.node", "1", u.content("1"))
	if r := u.ended("x.5.node"); r.Phase != controllerapi.PhaseDone {
		t.Errorf("an upgrade after refused ones ended with %s: %s", r.Phase, r.Message)
	}
	u.runs("1")

	// A cloud that signs with another key, and a node that was not joined for it.
	trusted := u.cloud.key
	_, other, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	u.cloud.key = other
	u.cloud.offer("x.6.node", "2", u.content("2"))
	if r := u.ended("x.6.node"); r.Phase != controllerapi.PhaseFailed || !strings.Contains(r.Message, "does not trust") {
		t.Errorf("an upgrade that somebody else signed ended with %s: %s", r.Phase, r.Message)
	}
	u.cloud.key = trusted
	if out, err := u.do("join", u.url); err != nil {
		t.Fatalf("join: %v\n%s", err, out)
	}
	u.runs("1")
	u.cloud.offer("x.7.node", "2", u.content("2"))
	if r := u.ended("x.7.node"); r.Phase != controllerapi.PhaseFailed || !strings.Contains(r.Message, "--allow-upgrades") {
		t.Errorf("an upgrade of a node that does not allow it ended with %s: %s", r.Phase, r.Message)
	}
	u.runs("1")
}

// upgradeSteps are the moments at which an upgrade is killed, by what can be
// seen of them from outside.
var upgradeSteps = []struct {
	name    string
	reached func(u *upgraded, version string, before os.FileInfo) bool
}{
	{"in the middle of the download", func(u *upgraded, _ string, _ os.FileInfo) bool { return u.cloud.stalled() }},
	{"with the old program kept", func(u *upgraded, _ string, _ os.FileInfo) bool { return u.has("previous") }},
	{"on trial, before the swap", func(u *upgraded, _ string, _ os.FileInfo) bool { return u.has("pending") }},
	{"swapped", func(u *upgraded, _ string, before os.FileInfo) bool {
		now, err := os.Stat(u.exe)
		return err == nil && !os.SameFile(now, before)
	}},
	{"begun anew", func(u *upgraded, version string, _ os.FileInfo) bool { return u.cloud.registered() == version }},
	{"confirmed", func(u *upgraded, version string, _ os.FileInfo) bool {
		return u.cloud.registered() == version && !u.has("pending")
	}},
}

func (u *upgraded) has(name string) bool {
	_, err := os.Stat(filepath.Join(u.state(), "upgrade", name))
	return err == nil
}

// processes are those that act for this node: the agent, and guards.
func (u *upgraded) processes() (list []string) {
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		u.t.Fatal(err)
	}
	for _, path := range found {
		data, _ := os.ReadFile(path) // a process that ended
		words := strings.Split(string(data), "\x00")
		if slices.Contains(words, u.state()) && (slices.Contains(words, "run") || slices.Contains(words, "upgrade-guard")) {
			list = append(list, strings.Join(words, " "))
		}
	}
	return list
}

// A4: the agent is killed at every step of an upgrade, begins anew as its
// service would make it, and is of the new version in the end, one process, in
// the cloud. ANKA_LONG=1 asks for 50 upgrades.
func TestA4KilledAtEveryStepOfAnUpgrade(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	t.Parallel()
	rounds := len(upgradeSteps)
	if os.Getenv("ANKA_LONG") != "" {
		rounds = 50
	}
	u := newUpgraded(t, "10m")
	versions := [][]byte{u.content("1"), u.content("2")}
	id := state.Dir(u.state())
	pid := u.runs("1")
	var again *exec.Cmd
	for n, kills := 0, 0; kills < rounds; n++ {
		if n > 10*rounds {
			t.Fatalf("only %d of %d upgrades were killed in time", kills, n)
		}
		step, target := upgradeSteps[kills%len(upgradeSteps)], strconv.Itoa(1+(n+1)%2)
		before, err := os.Stat(u.exe)
		if err != nil {
			t.Fatal(err)
		}
		u.cloud.stall(kills%len(upgradeSteps) == 0)
		task := controllerapi.TaskID(fmt.Sprintf("x.%d.node", n))
		u.cloud.offer(task, target, versions[(n+1)%2])
		reached := false
		u.wait(step.name, func() bool {
			reached = step.reached(u, target, before)
			return reached || u.cloud.result(task).Phase != "" && u.cloud.registered() == target && !u.has("pending")
		})
		if !reached { // the step had passed before this process had a turn
			if r := u.ended(task); r.Phase != controllerapi.PhaseDone {
				t.Fatalf("round %d, not killed: the upgrade ended with %s: %s", n, r.Phase, r.Message)
			}
			pid = u.runs(target)
			continue
		}
		kills++
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatalf("%s: kill: %v", step.name, err)
		}
		if again != nil {
			_ = again.Wait() // killed
		}
		u.wait("the killed agent's end", func() bool { return id.RunningPID() == 0 })
		u.cloud.stall(false)
		again = exec.Command(u.exe, "run", "--force-no-sudo", "--state-dir", u.state())
		again.Env = u.env
		if err := again.Start(); err != nil {
			t.Fatal(err)
		}
		if r := u.ended(task); r.Phase != controllerapi.PhaseDone {
			t.Fatalf("round %d, killed %s: the upgrade ended with %s: %s", n, step.name, r.Phase, r.Message)
		}
		if pid = u.runs(target); pid != again.Process.Pid {
			t.Fatalf("round %d, killed %s: the agent is process %d, want %d", n, step.name, pid, again.Process.Pid)
		}
		u.wait("one process and nothing pending", func() bool { return !u.has("pending") && len(u.processes()) == 1 })
	}
	_ = again.Process.Signal(syscall.SIGTERM)
	if err := again.Wait(); err != nil {
		t.Errorf("the agent ended with %v", err)
	}
	t.Logf("%d upgrades, each killed once", rounds)
}
