package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ankacluster/ankacluster/agent/tart"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// tarts are the versions of the command that the agent is tried with. Those before
// the oldest that runs scripts hand starts with scripts back.
var tarts = []string{"2.27.2", "2.27.3", "2.28.2", "2.32.1", "2.33.1", "2.35.0"}

// The whole life of VMs - pull, disk, script, save, delete, eviction; tart has no
// port forwards and no USB devices - with every version of tart, as
// TestLifeOnEveryAnka. On each, VMs also come up of images whose MAC has a lease.
func TestLifeOnEveryTart(t *testing.T) {
	for _, version := range tarts {
		t.Run(version, func(t *testing.T) {
			t.Parallel() // with one another: they mostly wait
			m := newTartLife(t, version)
			looks := []string{"get", "list", "ip"}
			faults := slices.DeleteFunc(lifeFaults(looks, "pull", "clone", "set", "exec", "push", "stop", "delete"), func(f fault) bool {
				// The other commands print no answer, so that their exit code is all.
				return f["action"] == "garbage" && !slices.Contains(looks, f["command"].(string))
			})
			faults = append(faults,
				// A VM's own process has no end that an agent waits for.
				fault{"command": "run", "action": "kill-caller", "probability": 0.06},
				fault{"command": "run", "action": "fail", "code": 1, "message": "boot failed", "probability": 0.03},
				fault{"command": "run", "action": "vm-crash", "delay": "1s", "probability": 0.03},
				// What a shutdown does to its own answer.
				fault{"command": "exec", "match": "shutdown", "action": "fail", "after": true, "code": 1, "message": "Error: unavailable (14): Transport became inactive", "probability": 0.5},
			)
			m.lives(true, faults)
			if _, err := os.Stat(filepath.Join(m.home, "spins")); err == nil {
				t.Error("a script came by a pipe")
			}
		})
	}
}

func newTartLife(t *testing.T, version string) *macLife {
	m := newMacLife(t, "faketart")
	m.variable, m.disk = chaosTart, filepath.Join(m.home, "cache", "OCIs")
	m.rows = m.tartRows
	scripts := false
	if fitness, _ := tart.Judge(version); fitness < tart.NoScripts {
		scripts = true
	}
	m.ask = func(r *controllerapi.StartRequest) {
		if !scripts {
			r.StartupScript, r.ScriptMonitoring = "", false
		}
	}
	m.wrong = func(i fakeInstance) bool {
		return !strings.HasPrefix(i.vm.IP, "192.168.64.") || scripts && (i.script == nil || i.script.ReturnCode != 0)
	}
	common := []string{"FAKETART_VERSION=" + version, fmt.Sprint("FAKETART_CONSOLE_UID=", os.Getuid()), fmt.Sprintf("FAKETART_DISK_BYTES=%dK", lifeSize/1024-4), "FAKETART_GUEST_AGENT=grow"}
	maker := &chaosMac{t: t, fake: m.fake, home: filepath.Join(t.TempDir(), "maker")}
	maker.env = append(slices.Clone(common), "TART_HOME="+maker.home)
	m.env = append(common, "TART_HOME="+m.home, "FAKETART_MAX_RUNNING=0")
	for i := range lifeTemplates {
		name := fmt.Sprint("demo", i)
		maker.run("create", "--from-ipsw", "latest", name)
		maker.run("push", "--insecure", name, strings.TrimPrefix(m.registry, "http://")+"/team/"+name+":v1")
	}
	m.findTemplates()
	m.run("create", "--from-ipsw", "latest", byHand)
	t.Cleanup(func() {
		m.fails("[]")
		for _, r := range m.rows() {
			if r.Status == "running" {
				m.run("stop", "--timeout", "1", r.Name)
			}
		}
	})
	return m
}

func (m *macLife) tartRows() (rows []macRow) {
	m.t.Helper()
	var answer []struct{ Source, Name, State string }
	m.listed(&answer, "list", "--format", "json")
	for _, e := range answer {
		if e.Source == "local" {
			rows = append(rows, macRow{UUID: tart.UUID(e.Name), Name: e.Name, Status: e.State})
			continue
		}
		_, name, _ := strings.Cut(e.Name, "/")
		if i := strings.LastIndexByte(name, ':'); i > 0 && !strings.Contains(name, "@") {
			rows = append(rows, macRow{Name: name[:i], Status: e.State, Version: name[i+1:]})
		}
	}
	return rows
}
