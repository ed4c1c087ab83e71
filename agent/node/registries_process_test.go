package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/anka"
	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// registryProcess is a registry that can be killed and comes back at its address.
type registryProcess struct {
	t         *testing.T
	bin, dir  string
	log, addr string

	mu  sync.Mutex
	cmd *exec.Cmd // guarded by mu
}

func (p *registryProcess) url() string { return "http://" + p.addr }

func (p *registryProcess) start() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	listen := p.addr
	if listen == "" {
		listen = ownLoopback() + ":0"
	}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Error(err)
		return
	}
	defer out.Close()
	p.cmd = exec.Command(p.bin, "--listen-addr", listen, "--base-path", p.dir, "--min-free", "0")
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		p.t.Error(err)
	}
}

func (p *registryProcess) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd.Process != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

// ready reports whether the registry takes requests.
func (p *registryProcess) ready() bool {
	resp, err := http.Get(p.url() + "/readyz")
	if err == nil {
		resp.Body.Close()
	}
	return err == nil && resp.StatusCode == http.StatusOK
}

// ownLoopback is an address whose ports nobody else takes, also while a server
// there is away: on Linux any 127.x.y.z is loopback, and who connects has
// 127.0.0.1.
func ownLoopback() string {
	if runtime.GOOS != "linux" {
		return "127.0.0.1"
	}
	return fmt.Sprintf("127.%d.%d.1", 1+os.Getpid()>>8%254, os.Getpid()&255)
}

// soon waits for what another process does.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	look, never := time.NewTicker(10*time.Millisecond), time.After(90*time.Second)
	defer look.Stop()
	for !ok() {
		select {
		case <-look.C:
		case <-never:
			t.Fatalf("never: %s", what)
		}
	}
}

func compile(t *testing.T, pkg, to string) string {
	t.Helper()
	cmd := exec.Command("go", "build", "-o", to, "github.com/ankacluster/ankacluster/"+pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return to
}

// One of three registries is killed, comes back a second later, and then the next:
// no pull through the node's loopback proxy fails. ANKA_LONG=1 asks for 100
// pulls of 200 MB.
func TestEveryPullIsGoodWhileRegistriesAreKilled(t *testing.T) {
	t.Parallel()
	pulls, size, every := 6, "24M", 400*time.Millisecond
	if os.Getenv("ANKA_LONG") != "" {
		pulls, size, every = 100, "200M", 2*time.Second
	}
	dir := t.TempDir()
	bin, fake := compile(t, "cmd/anka-registry", filepath.Join(dir, "anka-registry")), compile(t, "test/fakeanka", filepath.Join(dir, "fakeanka"))
	var registries []*registryProcess
	for _, name := range []string{"a", "b", "c"} {
		p := &registryProcess{t: t, bin: bin, dir: filepath.Join(dir, "store"), log: filepath.Join(dir, name+".log")}
		p.start()
		t.Cleanup(p.kill)
		soon(t, "the registry says where it listens", func() bool {
			data, err := os.ReadFile(p.log)
			_, rest, _ := strings.Cut(string(data), `"addr":"`)
			addr, _, told := strings.Cut(rest, `"`)
			if err == nil && told {
				p.addr = addr
			}
			return p.addr != ""
		})
		soon(t, "the registry is ready", p.ready)
		registries = append(registries, p)
	}
	mac := func(home string, args ...string) {
		t.Helper()
		cmd := exec.Command(fake, args...)
		cmd.Env = append(os.Environ(), "FAKEANKA_DIR="+filepath.Join(dir, home))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("fakeanka %v: %v\n%s", args, err, out)
		}
	}
	mac("builder", "create", "demo", "--size", size, "--layers", "4", "-t", "v1", "--uuid", "tpl-1")
	mac("builder", "registry", "-o2", "-r", registries[0].url(), "push", "demo", "-t", "v1")

	p := testPools(t, zap.NewNop(), "http://127.0.0.1:1", nil)
	var servers []controllerapi.Server
	for _, r := range registries {
		servers = append(servers, controllerapi.Server{URL: r.url()})
	}
	p.setCluster(balancer.OriginLearned, controllerapi.Cluster{Registries: servers}, zap.NewNop())
	d, err := newRegistryProxy(p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var around, killer sync.WaitGroup
	around.Go(func() { _ = p.Run(ctx) })
	around.Go(func() { _ = d.serve(ctx) })
	killing, calm := context.WithCancel(ctx)
	var kills atomic.Int32
	killer.Go(func() {
		rnd := rand.New(rand.NewPCG(1, 1))
		pause := func(d time.Duration) bool {
			select {
			case <-killing.Done():
				return false
			case <-time.After(d): // the moments are the subject
				return true
			}
		}
		for pause(every / 2) {
			r := registries[rnd.IntN(len(registries))]
			r.kill()
			kills.Add(1)
			again := pause(every / 2)
			r.start()
			for again && !r.ready() { // no more than one is away
				again = pause(10 * time.Millisecond)
			}
			if !again {
				return
			}
		}
	})
	defer around.Wait()
	defer stop()
	defer killer.Wait()
	defer calm()

	wrapper := filepath.Join(dir, "anka")
	if err := os.WriteFile(wrapper, []byte("#!/bin/sh\nFAKEANKA_DIR='"+filepath.Join(dir, "node")+"' exec '"+fake+"' \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	rt := anka.New(wrapper, command.New("", zap.NewNop(), nil), anka.DefaultTimeouts())
	img := hypervisor.Image{ID: "tpl-1", Name: "demo", Tag: "v1"}
	from, done, err := d.Open(nil, hypervisor.Transfer{Repository: "demo", Tag: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	begin, longest, moved := time.Now(), time.Duration(0), d.Moved("demo")
	n := 0
	for ; n < pulls || kills.Load() < 2; n++ { // without kills the pulls prove nothing
		began := time.Now()
		if err := rt.Pull(ctx, img, from); err != nil {
			t.Fatalf("pull %d of %d, after %d kills: %v", n+1, pulls, kills.Load(), err)
		}
		longest = max(longest, time.Since(began))
		vm, err := rt.Show(ctx, img.ID)
		if err != nil || vm.Tag != img.Tag {
			t.Fatalf("pull %d left %+v, %v", n+1, vm, err)
		}
		if now := d.Moved("demo"); now <= moved {
			t.Fatalf("pull %d was not counted", n+1)
		} else {
			moved = now
		}
		if err := rt.RemoveImage(ctx, img); err != nil {
			t.Fatal(err)
		}
	}
	calm()
	killer.Wait()
	s := p.blobs.Status()
	t.Logf("%d pulls of %s in %s, longest %s, %d kills, %d downloads continued elsewhere, %d MB moved",
		n, size, time.Since(begin).Round(time.Millisecond), longest.Round(time.Millisecond), kills.Load(), s.Resumes, moved>>20)
}
