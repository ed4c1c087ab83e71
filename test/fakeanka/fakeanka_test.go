package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The test binary is the command: it runs itself again with this variable set.
const selfEnv = "FAKEANKA_TEST_SELF"

func TestMain(m *testing.M) {
	if os.Getenv(selfEnv) != "" || len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "__") {
		main()
	}
	os.Exit(m.Run())
}

// mac is one fake Mac.
type mac struct {
	t   *testing.T
	dir string
	env []string
}

func newMac(t *testing.T, env ...string) *mac {
	t.Helper()
	m := &mac{t: t, dir: t.TempDir(), env: env}
	t.Cleanup(func() { m.anka("-j", "delete", "--all", "--yes") })
	return m
}

func (m *mac) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), os.Args[0], args...)
	cmd.Env = append(append(os.Environ(), selfEnv+"=1", "FAKEANKA_DIR="+m.dir), m.env...)
	return cmd
}

// answer is what a call gave.
type answer struct {
	Status  string          `json:"status"`
	Message string          `json:"message"`
	Code    int             `json:"code"`
	Body    json.RawMessage `json:"body"`
	exit    int
	stdout  string
	stderr  string
}

func (m *mac) anka(args ...string) answer {
	m.t.Helper()
	cmd := m.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	a := answer{stdout: out.String(), stderr: errs.String(), exit: cmd.ProcessState.ExitCode()}
	if len(args) > 0 && args[0] == "-j" {
		_ = json.Unmarshal(out.Bytes(), &a) // garbage is a case under test
	}
	_ = err // the exit code tells
	return a
}

// ok is anka with success expected; it returns the body.
func (m *mac) ok(args ...string) map[string]any {
	m.t.Helper()
	a := m.anka(append([]string{"-j"}, args...)...)
	if a.exit != 0 || a.Status != "OK" {
		m.t.Fatalf("anka %v: exit %d, %s%s", args, a.exit, a.stdout, a.stderr)
	}
	if strings.HasSuffix(a.stdout, "\n") {
		m.t.Errorf("anka %v: the answer ends with a newline", args)
	}
	var body map[string]any
	_ = json.Unmarshal(a.Body, &body) // other bodies are not used through ok
	return body
}

func (m *mac) status(name string) string {
	m.t.Helper()
	a := m.anka("-j", "list", name)
	var rows []map[string]any
	if err := json.Unmarshal(a.Body, &rows); err != nil || len(rows) != 1 {
		m.t.Fatalf("list %s: %v: %s", name, err, a.stdout)
	}
	return rows[0]["status"].(string)
}

func (m *mac) waitStatus(name, want string) {
	m.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); m.status(name) != want; {
		if time.Now().After(deadline) {
			m.t.Fatalf("VM %s is %s, want %s", name, m.status(name), want)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestLifeOfAVM(t *testing.T) {
	t.Parallel()
	m := newMac(t)
	m.ok("create", "sonoma", "--size", "2M", "--layers", "2", "-t", "v1")
	clone := m.ok("clone", "sonoma", "vm1", "-t", "v1")
	if clone["name"] != "vm1" || len(clone["uuid"].(string)) != 36 {
		t.Fatalf("clone: %v", clone)
	}
	started := m.ok("start", "vm1")
	if started["status"] != "running" || started["ip"] == nil || started["arch"] != 2.0 {
		t.Errorf("start: %v", started)
	}
	ports := m.ok("show", "vm1")["port_forwarding"].([]any)
	host := ports[0].(map[string]any)["host_port"].(float64)
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", int(host)))
	if err != nil {
		t.Fatal(err)
	}
	banner := make([]byte, 11)
	if _, err := io.ReadFull(conn, banner); err != nil || string(banner) != "SSH-2.0-vm1" {
		t.Errorf("port 22 says %q, %v", banner, err)
	}
	conn.Close()
	m.ok("stop", "vm1")
	if got := m.status("vm1"); got != "stopped" {
		t.Errorf("after stop: %s", got)
	}
	m.ok("start", "vm1")
	m.ok("suspend", "vm1")
	if got := m.status("vm1"); got != "suspended" {
		t.Errorf("after suspend: %s", got)
	}
	m.ok("delete", "--yes", "vm1")
	a := m.anka("-j", "show", "vm1")
	if a.exit == 0 || a.Status != "ERROR" || a.Code != 3 {
		t.Errorf("show of a deleted VM: exit %d, %s", a.exit, a.stdout)
	}
}

func TestErrorsHaveTheirCodes(t *testing.T) {
	t.Parallel()
	m := newMac(t, "FAKEANKA_MAX_RUNNING=1")
	m.ok("create", "sonoma")
	m.ok("clone", "sonoma", "a")
	m.ok("clone", "sonoma", "b")
	m.ok("start", "a")
	for _, tc := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"clone", "sonoma", "a"}, 18, "taken"},
		{[]string{"clone", "nothing", "c"}, 3, "not found"},
		{[]string{"clone", "sonoma", "c", "-t", "v9"}, 3, "v9"},
		{[]string{"start", "b"}, 1, "Maximum number of running instances exceeded"},
		{[]string{"delete", "a"}, 1, "--yes"},
		{[]string{"frobnicate"}, 0, "no such command"},
		{[]string{"list", "--frob"}, 0, "no such option"},
	} {
		a := m.anka(append([]string{"-j"}, tc.args...)...)
		if a.exit == 0 || a.Status != "ERROR" || a.Code != tc.code || !strings.Contains(a.Message, tc.says) {
			t.Errorf("%v: exit %d, %s; want code %d and %q", tc.args, a.exit, a.stdout, tc.code, tc.says)
		}
	}
}

func TestVMThatDiedIsListedAsStopped(t *testing.T) {
	t.Parallel()
	m := newMac(t)
	m.ok("create", "sonoma")
	m.ok("clone", "sonoma", "vm1")
	m.ok("start", "vm1")
	s := &store{dir: m.dir}
	v, err := s.find("vm1")
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(v.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	m.waitStatus("vm1", "stopped")
}

func TestRunIsARealProcessInTheVM(t *testing.T) {
	t.Parallel()
	m := newMac(t)
	m.ok("create", "sonoma")
	m.ok("clone", "sonoma", "vm1")
	cmd := m.command("run", "-e", "WORD=hello", "vm1", "sh", "-c", `cat > got; echo $WORD from $ANKA_VM_NAME; exit 7`)
	cmd.Stdin = strings.NewReader("from stdin")
	out, err := cmd.Output()
	if cmd.ProcessState.ExitCode() != 7 || string(out) != "hello from vm1\n" {
		t.Fatalf("run: %v, %q", err, out)
	}
	s := &store{dir: m.dir}
	v, err := s.find("vm1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(s.rootDir(v), "got"))
	if err != nil || string(got) != "from stdin" {
		t.Errorf("file in the VM: %q, %v", got, err)
	}
	if a := m.anka("run", "vm1", "no-such-program"); a.exit != 127 {
		t.Errorf("unknown program: exit %d", a.exit)
	}
}

func TestStopEndsGuestProcessesWhoseRunWasKilled(t *testing.T) {
	t.Parallel()
	m := newMac(t)
	m.ok("create", "sonoma")
	m.ok("clone", "sonoma", "vm1")
	m.ok("start", "vm1")
	fifo := filepath.Join(m.dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := m.command("run", "vm1", "sh", "-c", "exec 9> "+fifo+"; echo up >&9; sleep 1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	m.ok("stop", "vm1")
	if _, err := io.ReadAll(r); err != nil { // ends when the last holder of the pipe is gone
		t.Fatal(err)
	}
}

func TestFaultsHappenAsAsked(t *testing.T) {
	t.Parallel()
	m := newMac(t)
	m.ok("create", "sonoma")
	set := func(faults string) {
		if err := os.WriteFile(filepath.Join(m.dir, "faults.json"), []byte(faults), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	set(`[{"command":"list","action":"fail","code":42,"message":"no luck","count":2}]`)
	for i := range 3 {
		a := m.anka("-j", "list")
		if failed := a.Code == 42 && a.exit == 1 && a.Message == "no luck"; failed != (i < 2) {
			t.Errorf("call %d: exit %d %s", i, a.exit, a.stdout)
		}
	}
	set(`[{"command":"list","action":"garbage"}]`)
	if a := m.anka("-j", "list"); a.exit != 0 || json.Valid([]byte(a.stdout)) {
		t.Errorf("garbage: exit %d %q", a.exit, a.stdout)
	}
	set(`[{"command":"list","action":"crash"}]`)
	if a := m.anka("-j", "list"); a.exit != -1 || a.stdout != "" {
		t.Errorf("crash: exit %d %q", a.exit, a.stdout)
	}
	set(`[{"command":"clone","action":"crash","after":true,"count":1}]`)
	if a := m.anka("-j", "clone", "sonoma", "vm1"); a.exit != -1 || m.status("vm1") != "stopped" {
		t.Errorf("crash after the work: exit %d", a.exit)
	}
	set(`[{"command":"start","action":"vm-crash","delay":"10ms","match":"vm1"}]`)
	m.ok("start", "vm1")
	m.waitStatus("vm1", "stopped")
	set(`[{"command":"version","action":"hang"}]`)
	cmd := m.command("-j", "version")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(m.dir, "faults.json")
	if _, err := os.Stat(log); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill() // it would hang for ever
	if err := cmd.Wait(); err == nil {
		t.Error("the hanging call ended by itself")
	}
}

func TestCallsAtOnceDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
	m := newMac(t, "FAKEANKA_MAX_RUNNING=3")
	m.ok("create", "sonoma")
	var wg sync.WaitGroup
	var mu sync.Mutex
	running := 0
	for i := range 8 {
		wg.Go(func() {
			name := fmt.Sprint("vm", i)
			if a := m.anka("-j", "clone", "sonoma", name); a.exit != 0 {
				t.Errorf("clone %s: %s", name, a.stdout)
			}
			if a := m.anka("-j", "start", name); a.exit == 0 {
				mu.Lock()
				running++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if running != 3 {
		t.Errorf("%d VMs run, want 3", running)
	}
	seen := map[float64]bool{}
	var rows []map[string]any
	if err := json.Unmarshal(m.anka("-j", "list", "-r").Body, &rows); err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		p := m.ok("show", row["uuid"].(string))["port_forwarding"].([]any)[0].(map[string]any)["host_port"].(float64)
		if seen[p] {
			t.Errorf("port %v is forwarded twice", p)
		}
		seen[p] = true
	}
}

func TestModifyChangesTheNextStart(t *testing.T) {
	t.Parallel()
	m := newMac(t)
	m.ok("create", "sonoma")
	m.ok("clone", "sonoma", "vm1")
	m.ok("modify", "vm1", "cpu", "6")
	m.ok("modify", "vm1", "ram", "8G")
	m.ok("modify", "vm1", "port", "web", "80")
	body := m.ok("start", "vm1")
	if body["cpu_cores"] != 6.0 || body["ram"] != "8G" || body["ram_size"] != float64(8<<30) {
		t.Errorf("after modify: %v", body)
	}
	for _, p := range body["port_forwarding"].([]any) {
		rule := p.(map[string]any)
		if rule["guest_port"] != 80.0 {
			continue
		}
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", int(rule["host_port"].(float64))))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if data, err := io.ReadAll(resp.Body); err != nil || string(data) != "vm1 port 80\n" {
			t.Errorf("port 80 says %q, %v", data, err)
		}
		return
	}
	t.Error("no rule for port 80")
}
