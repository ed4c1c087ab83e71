//go:build linux

// Package systemd boots a systemd of its own for a test, in namespaces made from
// the machine's own files: it is process 1 in there, sees an empty set of units
// and an /etc/systemd/system that lasts over a Reboot, and shares the rest of
// the file system, so that binaries and temporary directories of the test are
// where they are outside.
//
//	m := systemd.Boot(t)           // skips where that is not possible
//	out := m.Run(nil, "systemctl", "is-system-running")
//	m.Reboot()
//
// BootHost does so in a network namespace, as a host of a network that the test has
// made: /var/lib and /usr/local are the host's own, and last as the units do.
//
// BootRoot boots the systemd of another system's root directory instead, with
// all units of that system, a network of its own that has a loopback device
// alone, and its own host name.
//
// The machine's own service manager, if it has one, is never touched.
package systemd

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const binary = "/lib/systemd/systemd"

// units are all that the machine knows at boot: just enough for a service that
// is wanted by multi-user.target.
var units = map[string]string{
	"sysinit.target":        "[Unit]\nDescription=system initialisation\nDefaultDependencies=no\n",
	"basic.target":          "[Unit]\nDescription=basic system\nDefaultDependencies=no\nRequires=sysinit.target\nAfter=sysinit.target\n",
	"network-online.target": "[Unit]\nDescription=network\n",
	"shutdown.target":       "[Unit]\nDescription=shutdown\nDefaultDependencies=no\n",
	"multi-user.target":     "[Unit]\nDescription=multi-user system\nRequires=basic.target\nAfter=basic.target\n",
}

// bootScript runs as process 1 of the new namespaces and becomes systemd.
const bootScript = `
set -e
mount --make-rprivate /
mount -t cgroup2 none /sys/fs/cgroup
mount --bind "$1/etc" /etc/systemd/system
mount --bind "$1/lib" /usr/lib/systemd/system
if [ -d "$1/var" ]; then mount --bind "$1/var" /var/lib; mount --bind "$1/local" /usr/local; fi
mount -t tmpfs none /run
exec ` + binary + ` --system --unit=multi-user.target --log-target=console --log-level=warning --show-status=0
`

// rootScript is the same for the root directory of another system.
const rootScript = `
set -e
mount --make-rprivate /
ip link set lo up
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 none sys/fs/cgroup
mount -t tmpfs -o mode=755 none run
mount -t tmpfs -o mode=755 none dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs none dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for n in null zero full random urandom tty; do touch dev/$n; mount --bind /dev/$n dev/$n; done
mkdir -p .outside
pivot_root . .outside
umount -l /.outside
exec ` + binary + ` --system --unit=multi-user.target --log-target=console --log-level=warning --show-status=0
`

// Machine is a running systemd.
type Machine struct {
	t      testing.TB
	dir    string
	root   string // of another system, or ""
	netns  string // network namespace of a host, or ""
	cgroup string
	outer  *exec.Cmd // unshare, whose child is process 1 in there
	init   int       // process 1 in there, as numbered out here
	log    bytes.Buffer
}

// Boot starts a systemd and stops it when the test ends. It skips the test
// where there is none, or no right to make namespaces.
func Boot(t testing.TB) *Machine {
	t.Helper()
	return boot(t, "", "")
}

// BootHost is Boot in the named network namespace, with a /var/lib and a /usr/local
// of its own, both empty.
func BootHost(t testing.TB, netns string) *Machine {
	t.Helper()
	return boot(t, "", netns)
}

// BootRoot boots the systemd below root, which it changes, and stops it when the
// test ends. It skips the test where Boot does.
func BootRoot(t testing.TB, root string) *Machine {
	t.Helper()
	return boot(t, root, "")
}

func boot(t testing.TB, root, netns string) *Machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make namespaces and control groups")
	}
	for _, p := range []string{binary, "/usr/bin/unshare", "/usr/bin/nsenter", "/usr/bin/systemctl"} {
		if _, err := os.Stat(p); err != nil {
			t.Skipf("needs systemd and util-linux: %v", err)
		}
	}
	parent, err := cgroup2()
	if err != nil {
		t.Skipf("needs a cgroup2 file system: %v", err)
	}
	m := &Machine{t: t, root: root, netns: netns, dir: t.TempDir(), cgroup: filepath.Join(parent, fmt.Sprintf("anka-test-%d-%d", os.Getpid(), time.Now().UnixNano()))}
	dirs := []string{"etc", "lib"}
	if netns != "" {
		dirs = append(dirs, "var", "local")
	}
	for _, d := range dirs {
		m.must(os.Mkdir(filepath.Join(m.dir, d), 0o755))
	}
	for name, text := range units {
		m.must(os.WriteFile(filepath.Join(m.dir, "lib", name), []byte(text), 0o644))
	}
	if err := os.Mkdir(m.cgroup, 0o755); err != nil {
		t.Skipf("needs the right to make control groups: %v", err)
	}
	t.Cleanup(func() {
		m.powerOff()
		m.removeCgroup()
	})
	m.powerOn()
	return m
}

// Local is the folder that is /usr/local on a machine of BootHost.
func (m *Machine) Local() string { return filepath.Join(m.dir, "local") }

// Run runs a command inside and returns its combined output.
func (m *Machine) Run(env []string, command string, args ...string) (string, error) {
	enter := []string{"-t", strconv.Itoa(m.init), "-m", "-p", "-i", "-C"}
	environ := os.Environ()
	if m.netns != "" {
		enter = append(enter, "-n")
	}
	if m.root != "" {
		enter = append(enter, "-n", "-u")
		environ = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}
	}
	cmd := exec.Command("nsenter", append(append(enter, "--", command), args...)...)
	cmd.Env = append(environ, env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Reboot ends every process inside, as a power cut would, and boots again.
// Installed units stay.
func (m *Machine) Reboot() {
	m.t.Helper()
	m.powerOff()
	m.powerOn()
}

func (m *Machine) powerOn() {
	m.t.Helper()
	m.log.Reset()
	// A shell enters the control group first, so that the new namespace's root
	// is the group made for this machine.
	namespaces, script, dir := "-p -m -i -C --mount-proc", bootScript, m.dir
	if m.root != "" {
		namespaces, script, dir = "-p -m -i -C -n -u", rootScript, m.root
	}
	within := ""
	if m.netns != "" {
		within = "nsenter --net=/run/netns/" + m.netns
	}
	m.outer = exec.Command("sh", "-c", `echo $$ > "$0/cgroup.procs" && exec $4 unshare $3 --fork --kill-child sh -c "$1" sh "$2"`,
		m.cgroup, script, dir, namespaces, within)
	m.outer.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "container=test"}
	m.outer.Stdout, m.outer.Stderr = &m.log, &m.log
	m.must(m.outer.Start())
	deadline := time.Now().Add(3 * time.Minute)
	for !m.booted() {
		if time.Now().After(deadline) {
			log := m.powerOff()
			m.t.Skipf("systemd did not boot in its namespaces:\n%s", log)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// booted reports whether systemd has reached its default target.
func (m *Machine) booted() bool {
	if m.init == 0 {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", m.outer.Process.Pid, m.outer.Process.Pid))
		if err != nil {
			return false
		}
		m.init, _ = strconv.Atoi(strings.TrimSpace(string(children)))
		if m.init == 0 {
			return false
		}
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", m.init))
	if err != nil || strings.TrimSpace(string(comm)) != "systemd" {
		return false
	}
	out, err := m.Run(nil, "systemctl", "is-active", "multi-user.target")
	return err == nil && strings.TrimSpace(out) == "active"
}

// powerOff kills process 1 and with it everything inside, and returns what it
// has logged.
func (m *Machine) powerOff() string {
	if m.outer == nil {
		return ""
	}
	if m.init != 0 {
		if p, err := os.FindProcess(m.init); err == nil {
			_ = p.Kill() // it may have ended by itself
		}
	} else {
		_ = m.outer.Process.Kill()
	}
	_ = m.outer.Wait() // killed: its status says so
	m.outer, m.init = nil, 0
	return m.log.String()
}

// removeCgroup removes the control groups, innermost first. The kernel lets go
// of them a moment after their last process has ended.
func (m *Machine) removeCgroup() {
	var dirs []string
	_ = filepath.WalkDir(m.cgroup, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	deadline := time.Now().Add(time.Minute)
	for i := len(dirs) - 1; i >= 0; {
		err := os.Remove(dirs[i])
		switch {
		case err == nil || errors.Is(err, fs.ErrNotExist):
			i--
		case time.Now().After(deadline):
			m.t.Errorf("remove control group: %v", err)
			return
		default:
			time.Sleep(20 * time.Millisecond)
		}
	}
}

func (m *Machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// cgroup2 finds the version 2 hierarchy, which is the only one on present
// systems and stands beside the old ones on others.
func cgroup2() (string, error) {
	for _, d := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(filepath.Join(d, "cgroup.controllers")); err == nil {
			return d, nil
		}
	}
	return "", errors.New("none is mounted below /sys/fs/cgroup")
}
