package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/anka"
	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// Environment of the agent's process in the chaos test.
const (
	chaosDir  = "ANKA_TEST_AGENT_DIR"
	chaosURL  = "ANKA_TEST_CLOUD_URL"
	chaosAnka = "ANKA_TEST_ANKA"
)

// TestMain is also the agent's process, so that it can be killed for real.
func TestMain(m *testing.M) {
	if dir := Dir(os.Getenv(chaosDir)); dir != "" {
		if err := chaosAgent(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func chaosAgent(dir Dir) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg := DefaultConfig()
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
	timeouts := anka.DefaultTimeouts()
	timeouts.Query, timeouts.Change, timeouts.Stop = 5*time.Second, 5*time.Second, 5*time.Second
	a, err := New(cfg, dir, "node-1", Deps{
		Cloud:    controllerapi.NewClient(os.Getenv(chaosURL), http.DefaultClient),
		Runtime:  anka.New(os.Getenv(chaosAnka), runner, timeouts),
		Host:     &fakeHost{arch: "amd64", free: 9e11, address: "10.0.0.1"},
		Registry: &fakeRegistry{}, Log: log,
	})
	if err != nil {
		return err
	}
	return a.Run(ctx)
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

// faults of the hypervisor: failing, hanging, crashing and talking nonsense at
// random, before and after the work is done.
const faults = `[
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

// Starts and terminates at random moments, while anka fails, hangs and crashes
// at random and the agent is killed every few seconds: at the end exactly the
// wanted VMs exist. ANKA_LONG=1 asks for 500 instances.
func TestChaosEndsWithExactlyTheWantedVMs(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	work := t.TempDir()
	fake := filepath.Join(work, "fakeanka")
	if out, err := exec.Command("go", "build", "-o", fake, "github.com/ankacluster/ankacluster/test/fakeanka").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ankaDir := filepath.Join(work, "anka")
	env := append(os.Environ(), "FAKEANKA_DIR="+ankaDir, "FAKEANKA_MAX_RUNNING=0")
	run := func(args ...string) string {
		cmd := exec.Command(fake, args...)
		cmd.Env = env
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("fakeanka %v: %v", args, err)
		}
		return string(out)
	}
	run("create", "demo", "--size", "16K", "-t", "v1", "--uuid", "tpl-1")
	t.Cleanup(func() { run("delete", "--yes", "--all") })

	cloud := newFakeCloud()
	cloud.settings.MaxVMCount, cloud.unknownAfter = 4, 5
	srv := httptest.NewServer(cloud.handler())
	defer srv.Close()
	faultFile := filepath.Join(ankaDir, "faults.json")
	if err := os.WriteFile(faultFile, []byte(faults), 0o644); err != nil {
		t.Fatal(err)
	}

	var agent *exec.Cmd
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	begin := func() {
		agent = exec.Command(self)
		agent.Env = append(env, chaosDir+"="+filepath.Join(work, "node"), chaosURL+"="+srv.URL, chaosAnka+"="+fake)
		agent.Stderr = os.Stderr
		if err := agent.Start(); err != nil {
			t.Fatal(err)
		}
	}
	end := func(sig os.Signal) { _ = agent.Process.Signal(sig); _ = agent.Wait() }
	begin()
	defer func() { end(syscall.SIGKILL) }()

	seed := rand.Uint64()
	if s := os.Getenv("ANKA_TEST_SEED"); s != "" {
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	var live []controllerapi.InstanceID
	kills, nextKill := 0, time.Now().Add(3*time.Second)
	total := rounds(30, 500)
	for n := 0; n < total || len(live) > 3; {
		time.Sleep(time.Duration(rnd.IntN(300)) * time.Millisecond) // the moments are the subject
		if time.Now().After(nextKill) {
			end(syscall.SIGKILL)
			begin()
			kills++
			nextKill = time.Now().Add(time.Duration(2000+rnd.IntN(3000)) * time.Millisecond)
		}
		if n < total && len(live) < 6 && rnd.IntN(2) == 0 {
			id := controllerapi.InstanceID(fmt.Sprint("i", n))
			cloud.start(id, nil)
			live = append(live, id)
			n++
		} else if len(live) > 0 && rnd.IntN(3) == 0 {
			k := rnd.IntN(len(live))
			cloud.terminate(live[k])
			live = append(live[:k], live[k+1:]...)
		}
	}
	t.Logf("%d starts, %d kills", total, kills)
	// Calm: nothing fails any more, and all comes to rest.
	if err := os.WriteFile(faultFile, []byte("[]"), 0o644); err != nil {
		t.Fatal(err)
	}
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
		var answer struct {
			Body []struct{ UUID, Name, Status string }
		}
		if err := json.Unmarshal([]byte(run("-j", "list")), &answer); err != nil {
			t.Fatal(err)
		}
		vms := make(map[string]string)
		for _, vm := range answer.Body {
			if managed(vm.Name, DefaultVMPrefix) {
				vms[vm.UUID] = vm.Status
			}
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
