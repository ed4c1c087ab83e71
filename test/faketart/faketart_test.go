package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary is the command: it runs itself again with this variable set.
const selfEnv = "FAKETART_TEST_SELF"

func TestMain(m *testing.M) {
	if os.Getenv(selfEnv) != "" {
		main()
	}
	os.Exit(m.Run())
}

// mac is one fake Mac.
type mac struct {
	t   *testing.T
	dir string
}

func newMac(t *testing.T) *mac { return &mac{t, t.TempDir()} }

func (m *mac) command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), selfEnv+"=1", "TART_HOME="+m.dir, "FAKETART_DISK_BYTES=16K", "FAKETART_MAX_RUNNING=1", fmt.Sprint("FAKETART_CONSOLE_UID=", os.Getuid()))
	return cmd
}

// says runs a command that must end with code and print part.
func (m *mac) says(code int, part string, args ...string) {
	m.t.Helper()
	cmd := m.command(args...)
	cmd.Stdin = strings.NewReader("secret\n")
	out, _ := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(string(out), part) {
		m.t.Errorf("tart %v: exit code %d, %q; want %d with %q", args, got, out, code, part)
	}
}

func (m *mac) begin(args ...string) *exec.Cmd {
	m.t.Helper()
	cmd := m.command(args...)
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func (m *mac) until(name, state string) {
	m.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		out, err := m.command("get", name, "--format", "json").Output()
		if err == nil && strings.Contains(string(out), `"State" : "`+state+`"`) {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("VM %s is not %s: %s, %v", name, state, out, err)
		}
	}
}

// Messages and exit codes are those that the agent tells failures apart by.
func TestErrorsAreThoseOfTheRealCommand(t *testing.T) {
	m := newMac(t)
	m.says(0, "2.35.0", "--version")
	m.says(64, "Error: Unexpected argument 'nonsense'\nUsage: tart", "nonsense")
	m.says(64, "Error: Unknown option '--nonsense'", "list", "--nonsense")
	m.says(2, `the specified VM "none" does not exist`, "get", "none", "--format", "json")
	m.says(2, `the specified VM "none" does not exist`, "delete", "none")
	m.says(0, "", "create", "--from-ipsw", "latest", "a")
	m.says(2, `VM "a" is not running`, "stop", "a")
	m.says(2, `VM "a" is not running`, "exec", "a", "true")
	m.says(1, "no IP address found, is your VM running?", "ip", "a")
	m.says(1, "should be larger", "set", "a", "--disk-size", "1")
	m.says(1, "LessThanMinimalResourcesError", "set", "a", "--cpu", "1")
	m.says(64, "should be a local name", "clone", "a", "x/y")
}

func TestRenameAndCloneOverAVM(t *testing.T) {
	m := newMac(t)
	m.says(0, "", "create", "--from-ipsw", "latest", "a")
	m.says(0, "", "set", "a", "--cpu", "7")
	m.says(0, "", "create", "--linux", "b")
	m.says(64, "already exists", "rename", "a", "b")
	m.says(0, "", "clone", "a", "b") // replaces b without a word
	m.says(0, `"CPU" : 7`, "get", "b", "--format", "json")
	m.says(0, "", "rename", "b", "c")
	m.says(2, "does not exist", "get", "b")
}

// A VM lives as long as its process, and is found by that process's lock.
func TestVMIsItsProcess(t *testing.T) {
	m := newMac(t)
	m.says(0, "", "create", "--from-ipsw", "latest", "a")
	m.says(0, "", "clone", "a", "b")
	vm := m.begin("run", "--no-graphics", "--suspendable", "a")
	m.until("a", "running")
	m.says(2, "is already running!", "run", "--no-graphics", "a")
	m.says(1, "The number of VMs exceeds the system limit (other running VMs: a)", "run", "--no-graphics", "b")
	m.says(1, `VM "a" is running`, "delete", "a")
	m.says(1, `VM "a" is running`, "push", "--insecure", "a", "127.0.0.1:1/a:v1")
	m.says(0, "", "suspend", "a")
	_ = vm.Wait()
	m.until("a", "suspended")
	vm = m.begin("run", "--no-graphics", "a")
	m.until("a", "running")
	_ = vm.Process.Signal(syscall.SIGKILL)
	_ = vm.Wait()
	m.until("a", "stopped")
	m.says(0, "", "delete", "a", "b")
}

func TestLogin(t *testing.T) {
	m := newMac(t)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	m.says(0, "", "login", "--insecure", "--username", "me", "--password-stdin", host)
	m.says(1, "invalid credentials", "login", "--insecure", "--username", "you", "--password-stdin", host)
	if log, err := os.ReadFile(filepath.Join(m.dir, "calls.log")); err != nil || strings.Contains(string(log), "secret") {
		t.Errorf("calls.log: %s, %v", log, err)
	}
}
