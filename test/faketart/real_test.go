package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What the fake does because the real command, or the Mac around it, does so.

// with runs a command with more environment.
func (m *mac) with(env string, args ...string) (code int, out string) {
	m.t.Helper()
	cmd := m.command(args...)
	cmd.Env = append(cmd.Env, env)
	data, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(data)
}

// D1: a macOS guest starts for the user who is logged in, a Linux guest for any.
func TestRootStartsNoMacOS(t *testing.T) {
	m := newMac(t)
	m.says(0, "", "create", "--from-ipsw", "latest", "a")
	m.says(0, "", "create", "--linux", "linux")
	for env, want := range map[string]string{
		fmt.Sprint("FAKETART_CONSOLE_UID=", os.Getuid()+1): "VZErrorDomain Code=1 ",
		"FAKETART_KEYCHAIN=locked":                         "VZErrorDomain Code=-9",
	} {
		if code, out := m.with(env, "run", "--no-graphics", "a"); code != 1 || !strings.Contains(out, want) {
			t.Errorf("%s: %d, %q; want 1 with %q", env, code, out, want)
		}
	}
	cmd := m.command("run", "--no-graphics", "linux")
	cmd.Env = append(cmd.Env, fmt.Sprint("FAKETART_CONSOLE_UID=", os.Getuid()+1))
	m.start(cmd)
	m.until("linux", "running")
	m.says(0, "", "stop", "linux")
}

// D13: macOS may hold a slot that no VM uses, and says so in the same words.
func TestLostSlot(t *testing.T) {
	m := newMac(t)
	m.says(0, "", "create", "--from-ipsw", "latest", "a")
	if code, out := m.with("FAKETART_LOST_SLOTS=1", "run", "--no-graphics", "a"); code != 1 || out != "The number of VMs exceeds the system limit\n" {
		t.Errorf("%d, %q", code, out)
	}
}

func (m *mac) start(cmd *exec.Cmd) {
	m.t.Helper()
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

// life starts a VM, waits until its agent answers, and stops it.
func (m *mac) life(name string) {
	m.t.Helper()
	m.begin("run", "--no-graphics", name)
	m.until(name, "running")
	for {
		if out, err := m.command("exec", name, "true").CombinedOutput(); err == nil {
			break
		} else if !strings.Contains(string(out), "Guest Agent running?") {
			m.t.Fatalf("exec: %s", out)
		}
	}
	m.says(0, "", "stop", name)
	m.until(name, "stopped")
}

// D10: a lease stays with the hardware address; a clone has its image's, and so the
// address of an earlier VM, until it is given another one. Leases run out.
func TestLeasesOutliveVMs(t *testing.T) {
	m := newMac(t)
	m.says(0, "", "create", "--from-ipsw", "latest", "a")
	m.says(1, "no IP address found, is your VM running?", "ip", "a")
	m.life("a")
	m.says(0, "192.168.64.2", "ip", "a") // though it does not run
	m.says(0, "", "rename", "a", "b")
	m.says(0, "192.168.64.2", "ip", "b")
	m.says(0, "", "clone", "b", "c") // while b is there, it gets an address of its own
	m.says(1, "no IP address found", "ip", "c")
	m.says(0, "", "set", "b", "--random-mac")
	m.says(1, "no IP address found", "ip", "b")
	t.Setenv("FAKETART_ADDRESSES", "1")
	m.life("b")
	m.says(1, "no IP address found", "ip", "b")
	t.Setenv("FAKETART_ADDRESSES", "2")
	m.life("b")
	m.says(0, "192.168.64.3", "ip", "b")
}

// D11: exec of each version fails in its own way.
func TestExecOfEachVersion(t *testing.T) {
	m := newMac(t)
	m.says(0, "", "create", "--from-ipsw", "latest", "a")
	m.begin("run", "--no-graphics", "a")
	m.until("a", "running")
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("echo said"), 0o600); err != nil {
		t.Fatal(err)
	}
	spins := func() bool { _, err := os.Stat(filepath.Join(m.dir, "spins")); return err == nil }
	for _, version := range versions {
		t.Setenv("FAKETART_VERSION", version)
		m.says(0, version, "--version")
		if version == "2.27.2" {
			continue // it ends what takes a second, and on a busy machine that is all
		}
		_ = os.Remove(filepath.Join(m.dir, "spins"))
		m.says(0, "", "exec", "-i", "a", "cat") // its input is a pipe
		if old := olderThan(version, "2.33.0"); spins() != old {
			t.Errorf("%s: spins with a pipe: %v", version, spins())
		}
		if olderThan(version, "2.28.2") {
			continue // a file hangs
		}
		f, err := os.Open(script)
		if err != nil {
			t.Fatal(err)
		}
		cmd := m.command("exec", "-i", "a", "sh")
		cmd.Stdin = f
		out, err := cmd.CombinedOutput()
		f.Close()
		if err != nil || string(out) != "said\n" {
			t.Errorf("%s: a file: %q, %v", version, out, err)
		}
	}
	t.Setenv("FAKETART_VERSION", "2.27.2")
	m.says(1, "deadline exceeded", "exec", "a", "sleep", "1000")
	t.Setenv("FAKETART_VERSION", "2.33.0")
	m.says(-1, "", "--version")
	t.Setenv("FAKETART_VERSION", "2.35.0")
	m.says(0, "", "stop", "a")
}

// D14: what a killed pull left goes with the next command, but with no other pull.
func TestKilledPullsAreDiscarded(t *testing.T) {
	m := newMac(t)
	m.says(0, "", "list")
	left := filepath.Join(m.dir, "tmp", "vm-left")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	m.says(1, "failed to parse", "pull", "no remote name")
	if _, err := os.Stat(left); err != nil {
		t.Errorf("after a pull: %v", err)
	}
	m.says(0, "", "list")
	if _, err := os.Stat(left); err == nil {
		t.Error("after a list it is still there")
	}
}
