package topologies

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/ankacluster/ankacluster/test/systemd"
)

// TestOneMachineWithEverythingAsAService goes from nothing to a working cloud
// with one command, under a real systemd, and keeps it over a crash, a change of
// settings, a reboot and an uninstall with a new install.
func TestOneMachineWithEverythingAsAService(t *testing.T) {
	t.Parallel()
	m := systemd.Boot(t)
	dir := t.TempDir()
	addr, registry, etcd, peer := freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t)
	settings := []string{"--standalone", "--data-dir", dir, "--listen-addr", addr, "--registry-listen-address", registry,
		"--etcd-listen-client", etcd, "--etcd-listen-peer", peer}
	run := func(args ...string) (string, error) { return m.Run(nil, bin("anka-controller"), args...) }
	must := func(args ...string) string {
		t.Helper()
		out, err := run(args...)
		if err != nil {
			t.Fatalf("anka-controller %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	cloudID := func() string {
		t.Helper()
		var id string
		eventually(t, "the controller lists itself", func() error {
			out, err := m.Run(nil, "curl", "-sS", "--fail", "-m", "5", "http://"+addr+"/api/v1/cluster")
			if err != nil || !strings.Contains(out, `"url":"http://`+addr) {
				return fmt.Errorf("%w: %s", err, out)
			}
			_, rest, _ := strings.Cut(out, `"cloud_id":"`)
			id, _, _ = strings.Cut(rest, `"`)
			return nil
		})
		return id
	}

	if out, err := run("service", "status"); err == nil || !strings.Contains(out, "not installed") {
		t.Errorf("status before the install: %v, %s", err, out)
	}
	if out := must(append([]string{"service", "install"}, settings...)...); !strings.Contains(out, "ankacluster join http://"+addr) {
		t.Errorf("the install does not say what is next:\n%s", out)
	}
	id := cloudID()

	if out, err := m.Run(nil, "systemctl", "kill", "--signal=SIGKILL", "anka-controller"); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if got := cloudID(); got != id {
		t.Errorf("after kill -9 the cloud is %s, was %s", got, id)
	}
	must(append([]string{"service", "install", "--graceful-shutdown-timeout", "7s"}, settings...)...)
	if out := must("service", "status"); !strings.Contains(out, "running") || !strings.Contains(out, "starts at boot: true") {
		t.Errorf("status: %s", out)
	}
	if unit, _ := m.Run(nil, "cat", "/etc/systemd/system/anka-controller.service"); !strings.Contains(unit, "--graceful-shutdown-timeout=7s") {
		t.Errorf("a second install did not change the settings:\n%s", unit)
	}

	m.Reboot()
	if got := cloudID(); got != id {
		t.Errorf("after the reboot the cloud is %s, was %s", got, id)
	}

	must("service", "uninstall")
	if out, err := run("service", "status"); err == nil || !strings.Contains(out, "not installed") {
		t.Errorf("status after the uninstall: %v, %s", err, out)
	}
	if _, err := os.Stat(dir + "/etcd"); err != nil {
		t.Errorf("the uninstall removed data: %v", err)
	}
	must(append([]string{"service", "install"}, settings...)...)
	if got := cloudID(); got != id {
		t.Errorf("after a new install the cloud is %s, was %s", got, id)
	}
}
