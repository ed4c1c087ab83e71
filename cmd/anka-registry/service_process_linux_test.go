package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/test/systemd"
)

// TestRegistryAsAService installs the registry under a real systemd, kills it,
// changes its settings, reboots, and removes it: it serves whenever it should,
// and its store stays.
func TestRegistryAsAService(t *testing.T) {
	t.Parallel()
	m := systemd.Boot(t)
	exe := filepath.Join(t.TempDir(), "anka-registry")
	build := exec.Command("go", "build", "-o", exe, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	dir, _ := store(t) // with one template
	settings := []string{"--listen-addr", addr, "--base-path", dir}
	run := func(args ...string) (string, error) {
		return m.Run(nil, exe, append([]string{"service"}, args...)...)
	}
	must := func(args ...string) string {
		t.Helper()
		out, err := run(args...)
		if err != nil {
			log, _ := m.Run(nil, "systemctl", "status", "--no-pager", "anka-registry")
			t.Fatalf("anka-registry service %s: %v\n%s\n%s", strings.Join(args, " "), err, out, log)
		}
		return out
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	serves := func(when string) {
		t.Helper()
		for deadline := time.Now().Add(3 * time.Minute); ; <-tick.C {
			out, err := m.Run(nil, "curl", "-sS", "--fail", "-m", "5", "http://"+addr+"/readyz")
			if err == nil {
				out, err = m.Run(nil, "curl", "-sS", "--fail", "-m", "5", "http://"+addr+"/v2/team/vm/tags/list")
			}
			if err == nil && strings.Contains(out, `"v1"`) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s it does not serve its template: %v: %s", when, err, out)
			}
		}
	}
	gone := func(when string) {
		t.Helper()
		if out, err := run("status"); err == nil || !strings.Contains(out, "not installed") {
			t.Errorf("status %s: %v, %s", when, err, out)
		}
	}

	gone("before the install")
	// A unit of an older version is replaced, and what it wrote stays of use.
	old := "[Service]\nType=exec\nExecStart=" + exe + " " + strings.Join(settings, " ") + "\nKillMode=process\n[Install]\nWantedBy=multi-user.target\n"
	if out, err := m.Run(nil, "sh", "-c", `printf %s "$0" > /etc/systemd/system/anka-registry.service && systemctl enable --now anka-registry`, old); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	serves("with an old unit")
	out := must(append([]string{"install"}, settings...)...)
	if !strings.Contains(out, "ready; controllers use it with --anka-registry") {
		t.Errorf("the install does not say what is next:\n%s", out)
	}
	serves("after the install")
	if out := must("status"); !strings.Contains(out, "running") || !strings.Contains(out, "starts at boot: true") {
		t.Errorf("status: %s", out)
	}
	// As etcd's and Vault's units: the exposure is at most 2.5 of 10.
	if out, err := m.Run(nil, "systemd-analyze", "security", "--no-pager", "--threshold=25", "anka-registry"); err != nil {
		t.Errorf("the service is not shut off from the machine: %v\n%s", err, out)
	}
	if out, err := m.Run(nil, "systemctl", "kill", "--signal=SIGKILL", "anka-registry"); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	serves("after kill -9")

	must(append([]string{"install", "--graceful-shutdown-timeout", "7s"}, settings...)...)
	if unit, _ := m.Run(nil, "cat", "/etc/systemd/system/anka-registry.service"); !strings.Contains(unit, "--graceful-shutdown-timeout=7s") {
		t.Errorf("a second install did not change the settings:\n%s", unit)
	}
	m.Reboot()
	serves("after a reboot")

	if out := must("uninstall"); !strings.Contains(out, "its data stay") {
		t.Errorf("uninstall: %s", out)
	}
	gone("after the uninstall")
	if out, err := m.Run(nil, "curl", "-sS", "--fail", "-m", "5", "http://"+addr+"/readyz"); err == nil {
		t.Errorf("the registry answers after the uninstall: %s", out)
	}
	if out, err := m.Run(nil, exe, "--base-path", dir, "verify"); err != nil {
		t.Errorf("the store after the uninstall: %v\n%s", err, out)
	}
}
