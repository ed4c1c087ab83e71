package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/anka"
	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/agent/tart"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/registryapi/content/memory"
	"github.com/ankacluster/ankacluster/registryapi/server"
)

// Environment of the agent's process in the chaos test.
const (
	chaosDir      = "ANKA_TEST_AGENT_DIR"
	chaosURL      = "ANKA_TEST_CLOUD_URL"
	chaosRegistry = "ANKA_TEST_REGISTRY_URL"
	chaosAnka     = "ANKA_TEST_ANKA" // the hypervisor's command; one of the two
	chaosTart     = "ANKA_TEST_TART"
	// chaosDisk is the size of a small disk and what lies on it, as "BYTES DIR".
	chaosDisk = "ANKA_TEST_DISK"
)

// TestMain is also the agent's process, so that it can be killed for real.
func TestMain(m *testing.M) {
	if dir := state.Dir(os.Getenv(chaosDir)); dir != "" {
		if err := chaosAgent(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func chaosAgent(dir state.Dir) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg := state.DefaultConfig()
	cfg.Controllers = []string{os.Getenv(chaosURL)}
	cfg.Heartbeat, cfg.StartTimeout, cfg.NumWorkers = time.Second, 5*time.Second, 4
	runner := command.New(dir.CommandNotes(), zap.NewNop(), nil)
	if _, err := runner.KillLeftovers(); err != nil {
		return err
	}
	log := zap.NewNop()
	if os.Getenv("ANKA_TEST_LOG") != "" {
		log, _ = zap.NewDevelopment()
	}
	host := &fakeHost{arch: "amd64", free: 9e11, address: "10.0.0.1"}
	if size, home, ok := strings.Cut(os.Getenv(chaosDisk), " "); ok {
		cfg.ReserveSpace = state.Reserve{}
		host.onLoad = func() { host.setFree(size, home) }
	}
	a, err := New(cfg, dir, "node-1", Deps{
		Cloud:    controllerapi.NewClient(os.Getenv(chaosURL), http.DefaultClient),
		Runtime:  chaosRuntime(dir, runner),
		Host:     host,
		Registry: &fakeRegistry{url: os.Getenv(chaosRegistry)}, Log: log,
	})
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// chaosRuntime is the hypervisor that the environment names, with less patience.
func chaosRuntime(dir state.Dir, runner *command.Runner) hypervisor.Runtime {
	const patience = 5 * time.Second
	if path := os.Getenv(chaosTart); path != "" {
		t := tart.DefaultTimeouts()
		t.Query, t.Change, t.Stop, t.Shutdown = patience, patience, patience, patience
		return tart.New(tart.Config{Path: path, Dir: dir.VMOutput(), Timeouts: t}, runner)
	}
	t := anka.DefaultTimeouts()
	t.Query, t.Change, t.Stop = patience, patience, patience
	t.Shutdown = patience
	cli := anka.New(os.Getenv(chaosAnka), runner, t)
	cli.RememberIn(dir.AnkaImages())
	return cli
}

// handler is the fake cloud's side of HTTP.
func (c *fakeCloud) handler() http.Handler {
	mux := http.NewServeMux()
	route(mux, controllerapi.PathAgentRegister, c.Register)
	route(mux, controllerapi.PathAgentSync, c.Sync)
	route(mux, controllerapi.PathAgentReserve, c.Reserve)
	route(mux, controllerapi.PathAgentReport, c.Report)
	return mux
}

func route[In, Out any](mux *http.ServeMux, path string, f func(context.Context, In) (Out, error)) {
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		var in In
		_ = json.NewDecoder(r.Body).Decode(&in)
		out, err := f(r.Context(), in)
		if err != nil {
			_ = json.NewEncoder(w).Encode(map[string]any{"status": "FAIL", "message": strings.TrimPrefix(err.Error(), "controller: ")})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "OK", "message": "", "body": out})
	})
}

// chaosMac is a fake Mac whose hypervisor fails, hangs, crashes and talks
// nonsense at random, before and after the work is done.
type chaosMac struct {
	t        *testing.T
	fake     string // the command
	variable string // of chaosRuntime
	home     string // of the fake's VMs and faults
	env      []string
	faults   string
	rounds   int
	registry string
	// vms lists all VMs, by UUID.
	vms func(m *chaosMac) map[string]chaosVM
}

type chaosVM struct{ name, status string }

func (m *chaosMac) run(args ...string) string {
	m.t.Helper()
	cmd := exec.Command(m.fake, args...)
	cmd.Env = append(os.Environ(), m.env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		m.t.Fatalf("%s %v: %v\n%s", filepath.Base(m.fake), args, err, &stderr)
	}
	return string(out)
}

// fails sets what goes wrong from now on.
func (m *chaosMac) fails(faults string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.home, "faults.json"), []byte(faults), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func newChaosMac(t *testing.T, fake string) *chaosMac {
	work := t.TempDir()
	m := &chaosMac{t: t, fake: filepath.Join(work, fake), home: filepath.Join(work, "mac")}
	if out, err := exec.Command("go", "build", "-o", m.fake, "github.com/ankacluster/ankacluster/test/"+fake).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return m
}

// byHand is a VM that somebody made.
const byHand = "by-hand"

func chaosWithAnka(t *testing.T) *chaosMac {
	m := newChaosMac(t, "fakeanka")
	m.variable, m.env, m.rounds = chaosAnka, []string{"FAKEANKA_DIR=" + m.home, "FAKEANKA_MAX_RUNNING=0"}, rounds(30, 500)
	m.faults = `[
 {"command":"start","action":"fail","message":"boot failed","probability":0.05},
 {"command":"start","action":"hang","probability":0.03},
 {"command":"start","action":"crash","after":true,"probability":0.05},
 {"command":"clone","action":"crash","after":true,"probability":0.05},
 {"command":"clone","action":"garbage","after":true,"probability":0.03},
 {"command":"clone","action":"hang","probability":0.03},
 {"command":"delete","action":"fail","message":"busy","probability":0.1},
 {"command":"delete","action":"crash","after":true,"probability":0.05},
 {"command":"stop","action":"hang","probability":0.03},
 {"command":"list","action":"garbage","probability":0.03},
 {"command":"show","action":"crash","probability":0.03}]`
	m.vms = func(m *chaosMac) map[string]chaosVM {
		var answer struct {
			Body []struct{ UUID, Name, Status string }
		}
		if err := json.Unmarshal([]byte(m.run("-j", "list")), &answer); err != nil {
			t.Fatal(err)
		}
		vms := make(map[string]chaosVM)
		for _, vm := range answer.Body {
			vms[vm.UUID] = chaosVM{vm.Name, vm.Status}
		}
		return vms
	}
	m.run("create", "demo", "--size", "16K", "-t", "v1", "--uuid", string(demoTemplate.ID))
	m.run("create", byHand, "--size", "16K", "-t", "v1")
	t.Cleanup(func() { m.fails("[]"); m.run("delete", "--yes", "--all") })
	return m
}

func chaosWithTart(t *testing.T) *chaosMac {
	m := newChaosMac(t, "faketart")
	m.variable, m.env, m.rounds = chaosTart, []string{"TART_HOME=" + m.home, "FAKETART_DISK_BYTES=16K", "FAKETART_MAX_RUNNING=0", fmt.Sprint("FAKETART_CONSOLE_UID=", os.Getuid())}, rounds(20, 200)
	m.faults = `[
 {"command":"run","action":"fail","code":1,"message":"boot failed","probability":0.05},
 {"command":"run","action":"hang","probability":0.03},
 {"command":"run","action":"crash","probability":0.05},
 {"command":"pull","action":"crash","probability":0.3},
 {"command":"clone","action":"crash","after":true,"probability":0.05},
 {"command":"clone","action":"hang","probability":0.03},
 {"command":"delete","action":"fail","code":1,"message":"busy","probability":0.1},
 {"command":"delete","action":"crash","after":true,"probability":0.05},
 {"command":"stop","action":"hang","probability":0.03},
 {"command":"list","action":"garbage","probability":0.03},
 {"command":"get","action":"crash","probability":0.03}]`
	m.vms = func(m *chaosMac) map[string]chaosVM {
		var answer []struct{ Name, State string }
		if err := json.Unmarshal([]byte(m.run("list", "--source", "local", "--format", "json")), &answer); err != nil {
			t.Fatal(err)
		}
		vms := make(map[string]chaosVM)
		for _, vm := range answer {
			vms[tart.UUID(vm.Name)] = chaosVM{vm.Name, vm.State}
		}
		return vms
	}
	cfg := server.DefaultConfig()
	cfg.Root = t.TempDir()
	registry, err := server.New(cfg, memory.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(registry.Handler())
	t.Cleanup(srv.Close)
	m.registry = srv.URL
	m.run("create", "--from-ipsw", "latest", byHand)
	m.run("push", "--insecure", byHand, strings.TrimPrefix(srv.URL, "http://")+"/"+demoTemplate.Repository+":"+demoTemplate.Tag)
	t.Cleanup(func() {
		m.fails("[]")
		for _, vm := range m.vms(m) {
			if vm.status == "running" {
				m.run("stop", "--timeout", "1", vm.name)
			}
		}
	})
	return m
}

// Starts and terminates at random moments, while the hypervisor fails, hangs and
// crashes at random and the agent is killed every few seconds: at the end exactly
// the wanted VMs exist, and one that somebody made is what it was. ANKA_LONG=1
// asks for 500 instances with anka, and 200 with tart.
func TestChaosEndsWithExactlyTheWantedVMs(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	for name, mac := range map[string]func(*testing.T) *chaosMac{"anka": chaosWithAnka, "tart": chaosWithTart} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // with one another: both mostly wait
			mac(t).chaos(t.TempDir())
		})
	}
}

func (m *chaosMac) chaos(work string) {
	t, total := m.t, m.rounds
	cloud := newFakeCloud()
	cloud.settings.MaxVMCount, cloud.unknownAfter = 4, 5
	srv := httptest.NewServer(cloud.handler())
	defer srv.Close()
	m.fails(m.faults)

	var agent *exec.Cmd
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	begin := func() {
		agent = exec.Command(self)
		agent.Env = append(os.Environ(), m.env...)
		agent.Env = append(agent.Env, chaosDir+"="+filepath.Join(work, "node"), chaosURL+"="+srv.URL,
			chaosRegistry+"="+m.registry, m.variable+"="+m.fake)
		agent.Stderr = os.Stderr
		if err := agent.Start(); err != nil {
			t.Fatal(err)
		}
	}
	end := func(sig os.Signal) { _ = agent.Process.Signal(sig); _ = agent.Wait() }
	begin()
	defer func() { end(syscall.SIGKILL) }()

	rnd := seeded(t)
	var live []controllerapi.InstanceID
	kills, nextKill := 0, time.Now().Add(3*time.Second)
	// A slow machine starts hardly anything between two kills: without VMs the
	// chaos would prove little.
	enough := func() bool {
		cloud.mu.Lock()
		defer cloud.mu.Unlock()
		had := 0
		for _, i := range cloud.instances {
			if i.vm != nil {
				had++
			}
		}
		return had >= total/3
	}
	n := 0
	// A start takes a few commands, which on a busy machine are slower than all this
	// is: after the starts that were asked for, each has more time.
	slower := func() int { return 1 + n/total }
	for n < total || len(live) > 3 || !enough() {
		time.Sleep(time.Duration(rnd.IntN(300)) * time.Millisecond) // the moments are the subject
		if time.Now().After(nextKill) {
			end(syscall.SIGKILL)
			begin()
			kills++
			nextKill = time.Now().Add(time.Duration((2000+rnd.IntN(3000))*slower()) * time.Millisecond)
		}
		if len(live) < 6 && (n < total || !enough()) && rnd.IntN(2) == 0 {
			id := controllerapi.InstanceID(fmt.Sprint("i", n))
			cloud.start(id, nil)
			live = append(live, id)
			n++
		} else if len(live) > 0 && rnd.IntN(3*slower()) == 0 {
			k := rnd.IntN(len(live))
			cloud.terminate(live[k])
			live = append(live[:k], live[k+1:]...)
		}
	}
	t.Logf("%d starts, %d kills", n, kills)
	// Calm: nothing fails any more, and all comes to rest.
	m.fails("[]")
	wanted := func() (map[string]bool, bool) {
		cloud.mu.Lock()
		defer cloud.mu.Unlock()
		names, rest := make(map[string]bool), true
		for id, i := range cloud.instances {
			switch i.state {
			case controllerapi.Started:
				names[i.vm.UUID] = true
			case controllerapi.Terminated, controllerapi.Error:
			default:
				rest = false
			}
			i.held = false // a node that handed back may take it again
			_ = id
		}
		return names, rest
	}
	have := func() map[string]string {
		vms, others := make(map[string]string), 0
		for id, vm := range m.vms(m) {
			switch {
			case managed(vm.name, state.DefaultVMPrefix):
				vms[id] = vm.status
			case vm.name == byHand && vm.status == "stopped":
				others++
			}
		}
		if others != 1 {
			t.Fatalf("the VM that somebody made was touched: %v", m.vms(m))
		}
		return vms
	}
	settled := func() bool {
		want, rest := wanted()
		vms := have()
		if !rest || len(vms) != len(want) {
			return false
		}
		for id := range want {
			if vms[id] != "running" {
				return false
			}
		}
		return true
	}
	wait := func(what string) {
		for deadline := time.Now().Add(3 * time.Minute); !settled(); time.Sleep(200 * time.Millisecond) {
			if time.Now().After(deadline) {
				want, rest := wanted()
				files, _ := filepath.Glob(filepath.Join(work, "node", "journal", "*"))
				t.Fatalf("%s: at rest %v, wanted %v, have %v, journal %v", what, rest, want, have(), files)
			}
		}
	}
	wait("after the chaos")
	for _, id := range live {
		cloud.terminate(id)
	}
	wait("after everything was terminated")
	if vms := have(); len(vms) != 0 {
		t.Errorf("VMs left: %v", vms)
	}
}
