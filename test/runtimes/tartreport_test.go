package runtimes

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ankacluster/ankacluster/agent/macreport"
)

// A report of tart shows what root is refused and what the user is not, and what
// becomes of the user's VMs when nobody is logged in. (D1)
func TestMacReportOfTart(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start VMs as another user")
	}
	u, err := user.Lookup("nobody")
	check(t, "user", err)
	uid, err := strconv.Atoi(u.Uid)
	check(t, "uid", err)
	m := newTart(t)
	out := t.TempDir()
	for _, dir := range []string{m.home, binDir} {
		for ; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
			check(t, "chmod", os.Chmod(dir, 0o755))
		}
	}
	check(t, "chown", os.Chown(m.home, uid, uid))
	ankacluster := filepath.Join(binDir, "ankacluster")
	create := exec.Command(ankacluster, "__become-user", u.Uid, u.Gid, "", m.fake, "create", "--from-ipsw", "latest", "sonoma")
	create.Env = append(os.Environ(), m.env...)
	if data, err := create.CombinedOutput(); err != nil {
		t.Fatalf("create: %v\n%s", err, data)
	}
	for name, c := range map[string]struct {
		env  []string
		ends map[string]int
	}{
		"logged in": {[]string{"FAKETART_CONSOLE_UID=" + u.Uid}, map[string]int{
			"tart-clone": 0, "tart-run-root": 1, "tart-run-user": 0, "tart-ip": 0, "tart-exec-exit-7": 7, "tart-exec-disk": 0, "tart-exec-stdin": 3,
			"tart-shutdown": 0, "tart-stop-stopped": 2, "tart-ip-none-yet": 1, "tart-ip-left": 0, "tart-delete": 0, "tart-delete-again": 2, "tart-delete-running": 1, "tart-run-again": 2,
		}},
		"logged out": {[]string{"FAKETART_CONSOLE_UID=0", "FAKETART_KEYCHAIN=locked"}, map[string]int{
			"tart-run-root": 1, "tart-run-user": 1, "tart-get-refused": 0, "tart-delete": 0,
		}},
	} {
		dir := filepath.Join(out, strings.ReplaceAll(name, " ", "-"))
		cmd := exec.Command(ankacluster, "mac-report", "--tart-vm", "sonoma", "--tart-user", "nobody", "--out", dir)
		cmd.Env = append(append(os.Environ(), m.env...), append(c.env, "ANKA_PATH=/there/is/no/anka", "TART_PATH="+m.fake)...)
		if data, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, data)
		}
		steps, err := macreport.Read(dir)
		check(t, "read", err)
		ended := make(map[string]int)
		for _, s := range steps {
			_, step, _ := strings.Cut(s.Name, "-")
			ended[step] = s.ExitCode
			if s.Error != "" && strings.HasPrefix(step, "tart-") && step != "tart-keychain" && step != "tart-auto-login" {
				t.Errorf("%s: %s: %s", name, step, s.Error)
			}
		}
		for step, want := range c.ends {
			if got, ok := ended[step]; !ok || got != want {
				t.Errorf("%s: %s ended with %d (%v), want %d", name, step, got, ok, want)
			}
		}
	}
	list := exec.Command(m.fake, "list", "--source", "local", "--quiet")
	list.Env = append(os.Environ(), m.env...)
	if left, err := list.Output(); err != nil || string(left) != "sonoma\n" {
		t.Errorf("left on the Mac: %q, %v", left, err)
	}
}
