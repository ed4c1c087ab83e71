package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content/memory"
	"github.com/ankacluster/ankacluster/registryapi/server"
)

// setFree makes the free space what a disk of size bytes has beside home.
func (h *fakeHost) setFree(size, home string) {
	total, _ := strconv.ParseInt(size, 10, 64)
	var used int64
	_ = filepath.WalkDir(home, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				used += info.Size()
			}
		}
		return nil // what goes while it is counted takes no space
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.free = uint64(max(total-used, 0))
}

// ankas are the versions of the command that the agent is tried with, and each
// answer to what is not known of it.
var ankas = []struct {
	name string
	env  []string
	oci  bool // it can pull and push
}{
	{"3.9", []string{"FAKEANKA_VERSION=3.9.1"}, true},
	{"3.9, answering otherwise", []string{"FAKEANKA_VERSION=3.9.0", "FAKEANKA_GUEST_DISK=disk4 disk0s3",
		"FAKEANKA_UNKNOWN=no-uuid,pull-mute,one-row,port-address,start-again,no-vnc,exit-30,list-fields,progress"}, true},
	{"3.8", []string{"FAKEANKA_VERSION=3.8.6"}, false},
	{"3.6", []string{"FAKEANKA_VERSION=3.6.1", "FAKEANKA_UNKNOWN=start-again,one-row"}, false},
}

// lifeFaults go wrong at each step of a VM's life. The agent is killed before or
// after the command has done its work; looks are commands that run all the time.
func lifeFaults(looks []string, verbs ...string) []fault {
	var list []fault
	for _, verb := range append(looks, verbs...) {
		kill := 0.06
		if slices.Contains(looks, verb) {
			kill = 0.01
		}
		list = append(list,
			fault{"command": verb, "action": "kill-caller", "probability": kill},
			fault{"command": verb, "action": "kill-caller", "after": true, "probability": kill},
			fault{"command": verb, "action": "fail", "message": "no", "code": 1, "probability": 0.03},
			fault{"command": verb, "action": "crash", "after": true, "probability": 0.03},
			fault{"command": verb, "action": "garbage", "probability": 0.02})
	}
	return list
}

// fault is as package fakefault has it.
type fault = map[string]any

// macLife is a node on a fake Mac with a small disk, a registry, and a cloud.
type macLife struct {
	*chaosMac
	cloud     *fakeCloud
	srv       *httptest.Server
	node      string
	died      chan struct{} // closed when the agent's process has gone
	kills     int
	ups       int // VMs that came up
	saves     int // images that were saved
	templates []controllerapi.TemplateRef
	disk      string // what lies on the small disk

	// rows lists VMs and images. It asks the fake itself, which must not take faults
	// that are for the agent.
	rows func() []macRow
	// ask asks for all that there is; wrong tells what of that a VM has not.
	ask   func(*controllerapi.StartRequest)
	wrong func(fakeInstance) bool
}

const (
	lifeTemplates = 3
	lifeSize      = 64 << 10
	// lifeDisk has room for two images of the three, and for what VMs need beside.
	lifeDisk = 2*lifeSize + lifeSize*3/4
)

// The whole life of VMs - pull, disk, ports, script, USB device, save, delete,
// eviction - with every version of the command, while it fails at any step and
// the agent is killed there: at the end exactly the wanted VMs exist, and a start
// of what the registry lacks has removed no image. ANKA_LONG=1 asks for 200 kills
// of each.
func TestLifeOnEveryAnka(t *testing.T) {
	for _, anka := range ankas {
		t.Run(anka.name, func(t *testing.T) {
			t.Parallel() // with one another: they mostly wait
			m := newAnkaLife(t, anka.env, anka.oci)
			m.lives(anka.oci, lifeFaults([]string{"show", "list"}, "pull", "clone", "modify", "start", "attach", "suspend", "push", "stop", "delete"))
		})
	}
}

// lives is what the tests of lives are: VMs come and go while faults are at work, and
// at the end exactly the wanted ones exist.
func (m *macLife) lives(oci bool, faults []fault) {
	t := m.t
	data, err := json.Marshal(faults)
	if err != nil {
		t.Fatal(err)
	}
	m.begin()
	m.fails(string(data))
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	n := 0
	// Faults are drawn, so that a few lives alone may bring up no VM or save no image.
	seen := func() bool { return m.ups > 0 && (m.saves > 0 || !oci) }
	for ; m.kills < rounds(6, 200) || n < 4 || !seen() && n < 100; n++ {
		m.live(controllerapi.InstanceID(fmt.Sprint("i", n)), m.templates[rnd.IntN(len(m.templates))], oci && n%3 == 1)
		if n%4 == 2 {
			m.badRequest(n, oci)
		}
	}
	m.fails("[]")
	m.cloud.start("kept", func(st *controllerapi.StartTask) { st.Template = m.templates[0] })
	m.until("the last VM is up", func() bool { return m.is("kept", controllerapi.Started) })
	m.until("exactly the wanted VM exists", func() bool {
		names := m.managed()
		return len(names) == 1 && names[m.cloud.get("kept").vm.UUID] == "running"
	})
	m.cloud.terminate("kept")
	m.until("no VM is left", func() bool { return len(m.managed()) == 0 })
	t.Logf("%d lives, %d of them up, %d images saved, %d kills", n, m.ups, m.saves, m.kills)
	if !seen() {
		t.Error("no VM came up, or no image was saved")
	}
}

// newMacLife is a node with a fake command, a registry and a cloud.
func newMacLife(t *testing.T, fake string) *macLife {
	cfg := server.DefaultConfig()
	cfg.Root = t.TempDir()
	registry, err := server.New(cfg, memory.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(registry.Handler())
	t.Cleanup(srv.Close)
	m := &macLife{chaosMac: newChaosMac(t, fake), cloud: newFakeCloud(), node: filepath.Join(t.TempDir(), "node")}
	m.registry = srv.URL
	m.cloud.settings.MaxVMCount, m.cloud.unknownAfter = 4, 5
	m.srv = httptest.NewServer(m.cloud.handler())
	t.Cleanup(m.srv.Close)
	return m
}

func newAnkaLife(t *testing.T, env []string, oci bool) *macLife {
	m := newMacLife(t, "fakeanka")
	m.variable, m.disk = chaosAnka, filepath.Join(m.home, "layers")
	m.rows = m.ankaRows
	m.ask = func(r *controllerapi.StartRequest) {
		r.USBDevice = "device1"
		r.PortForwardingOverride = []controllerapi.PortForwardRule{{Name: "web", GuestPort: "80"}}
	}
	m.wrong = func(i fakeInstance) bool {
		return len(i.vm.PortForwarding) != 1 || i.vm.PortForwarding[0].GuestPort != 80 || i.script == nil || i.script.ReturnCode != 0
	}
	maker := &chaosMac{t: t, fake: m.fake, home: filepath.Join(t.TempDir(), "maker")}
	maker.env = append(slices.Clone(env), "FAKEANKA_VERSION=3.9.1", "FAKEANKA_DIR="+maker.home)
	m.env = append(slices.Clone(env), "FAKEANKA_DIR="+m.home, "FAKEANKA_MAX_RUNNING=0")
	for i := range lifeTemplates {
		name := fmt.Sprint("demo", i)
		maker.run("create", name, "--size", strconv.Itoa(lifeSize/1024)+"K", "-t", "v1")
		maker.run("registry", "-o2", "-p", "team", "-r", m.registry, "push", name, "-t", "v1")
	}
	m.findTemplates()
	for _, tpl := range m.templates {
		if !oci { // brought by hand
			m.run("create", tpl.Name, "--size", "16K", "-t", "v1", "--uuid", string(tpl.ID))
		}
	}
	m.run("create", byHand, "--size", "1K", "-t", "v1")
	t.Cleanup(func() { m.fails("[]"); m.run("delete", "--yes", "--all") })
	return m
}

// findTemplates asks the registry for what was pushed.
func (m *macLife) findTemplates() {
	m.t.Helper()
	list, err := registryapi.NewClient(m.registry, http.DefaultClient).Templates(m.t.Context())
	if err != nil || len(list) != lifeTemplates {
		m.t.Fatalf("templates: %+v, %v", list, err)
	}
	for _, tpl := range list {
		m.templates = append(m.templates, controllerapi.TemplateRef{ID: controllerapi.TemplateID(tpl.ID), Name: tpl.Name, Tag: "v1", Repository: tpl.Repository, Size: lifeSize})
	}
}

// begin starts the agent, and again whenever it was killed.
func (m *macLife) begin() {
	m.t.Helper()
	self, err := os.Executable()
	if err != nil {
		m.t.Fatal(err)
	}
	agent := exec.Command(self)
	agent.Env = append(append(os.Environ(), m.env...), "FAKEFAULT_CALLER="+self, chaosDir+"="+m.node, chaosURL+"="+m.srv.URL,
		chaosRegistry+"="+m.registry, m.variable+"="+m.fake, fmt.Sprintf("%s=%d %s", chaosDisk, lifeDisk, m.disk))
	agent.Stderr = os.Stderr
	if err := agent.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.died = make(chan struct{})
	died := m.died
	go func() { _ = agent.Wait(); close(died) }()
	m.t.Cleanup(func() { _ = agent.Process.Signal(syscall.SIGKILL); <-died })
}

// until waits for a condition, and starts the agent again when it was killed. A
// start that was handed back is offered again.
func (m *macLife) until(what string, ok func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); !ok(); {
		if time.Now().After(deadline) {
			files, _ := filepath.Glob(filepath.Join(m.node, "journal", "*"))
			m.cloud.mu.Lock()
			told := ""
			for id, i := range m.cloud.instances {
				if i.message != "" {
					told += fmt.Sprintf("\n%s: %s, attempt %d: %s", id, i.state, i.attempt, i.message)
				}
			}
			m.cloud.mu.Unlock()
			m.t.Fatalf("after 5 minutes still not: %s\nVMs %v, journal %v%s", what, m.managed(), files, told)
		}
		m.cloud.mu.Lock()
		for _, i := range m.cloud.instances {
			i.held = false
		}
		changed := m.cloud.changed
		m.cloud.mu.Unlock()
		select {
		case <-m.died:
			m.kills++
			m.begin()
		case <-changed:
		case <-time.After(100 * time.Millisecond): // what is looked at may be on the Mac
		}
	}
}

func (m *macLife) is(id controllerapi.InstanceID, states ...controllerapi.InstanceState) bool {
	return slices.Contains(states, m.cloud.get(id).state)
}

// live is one VM's life, with everything that can be asked for.
func (m *macLife) live(id controllerapi.InstanceID, tpl controllerapi.TemplateRef, save bool) {
	m.t.Helper()
	m.cloud.start(id, func(st *controllerapi.StartTask) {
		st.Template = tpl
		st.Request = controllerapi.StartRequest{
			VCPU: 2, VRAM: 2048, Disk: &controllerapi.DiskRequest{Size: "200G"},
			StartupScript: script("echo hello > written"), ScriptMonitoring: true,
		}
		m.ask(&st.Request)
	})
	m.until(string(id)+" is up or has failed", func() bool { return m.is(id, controllerapi.Started, controllerapi.Error) })
	if i := m.cloud.get(id); i.state == controllerapi.Started {
		m.ups++
		if i.vm == nil || i.vm.CPUCores != 2 || m.wrong(i) {
			m.t.Errorf("%s: VM %+v, script %+v", id, i.vm, i.script)
		}
		if save {
			task := controllerapi.TaskID("save." + string(id))
			m.cloud.save(task, id, controllerapi.SaveImageTask{
				Request: controllerapi.SaveImageRequest{ID: id, Tag: "saved-" + string(id)}, Target: tpl,
			})
			m.until(string(id)+" is saved or has failed", func() bool { return m.cloud.outcome(task).Phase != "" })
			if m.cloud.outcome(task).Phase == controllerapi.PhaseDone {
				m.saves++
			}
		}
	}
	m.cloud.terminate(id)
	m.until(string(id)+" has ended", func() bool { return m.is(id, controllerapi.Terminated) })
}

// badRequest asks for a tag that the registry lacks: it fails, and every image of
// before is there after it.
func (m *macLife) badRequest(n int, oci bool) {
	m.t.Helper()
	before := m.images()
	id := controllerapi.InstanceID(fmt.Sprint("bad", n))
	m.cloud.start(id, func(st *controllerapi.StartTask) {
		st.Template = m.templates[0]
		st.Template.Tag, st.Template.Size = "none", 1
	})
	m.until(string(id)+" has failed", func() bool {
		return m.is(id, controllerapi.Error) || !oci && m.cloud.get(id).returned > 0
	})
	m.cloud.terminate(id)
	m.until(string(id)+" has ended", func() bool { return m.is(id, controllerapi.Terminated) })
	if after := m.images(); !slices.Equal(before, after) {
		m.t.Errorf("images before a bad request: %q, after it: %q", before, after)
	}
}

// macRow is a VM, or with a version an image.
type macRow struct{ UUID, Name, Status, Version string }

func (m *macLife) ankaRows() []macRow {
	m.t.Helper()
	var answer struct{ Body []macRow }
	m.listed(&answer, "-j", "list")
	return answer.Body
}

// listed reads the JSON of a command that no fault is for.
func (m *macLife) listed(to any, args ...string) {
	m.t.Helper()
	cmd := exec.Command(m.fake, args...)
	cmd.Env = append(append(os.Environ(), m.env...), "FAKEFAULT_NONE=1")
	out, err := cmd.Output()
	if err := errors.Join(err, json.Unmarshal(out, to)); err != nil {
		m.t.Fatalf("%q: %v\n%s", args, err, out)
	}
}

// managed returns the status of each VM of the cloud, and checks that the one that
// somebody made is what it was.
func (m *macLife) managed() map[string]string {
	m.t.Helper()
	vms, others := make(map[string]string), 0
	for _, r := range m.rows() {
		if managed(r.Name, state.DefaultVMPrefix) {
			vms[r.UUID] = r.Status
		} else if r.Name == byHand && r.Status == "stopped" {
			others++
		}
	}
	if others != 1 {
		m.t.Fatalf("the VM that somebody made was touched: %v", m.rows())
	}
	return vms
}

// images lists the templates on the node.
func (m *macLife) images() (names []string) {
	for _, r := range m.rows() {
		if r.Version != "" && !managed(r.Name, state.DefaultVMPrefix) {
			names = append(names, r.Name+":"+r.Version)
		}
	}
	slices.Sort(names)
	return names
}
