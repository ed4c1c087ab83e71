package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// gate is the way from one controller to etcd. While it is closed, nothing passes
// in either direction, but connections stay and are accepted, as with a host that
// was cut off.
type gate struct {
	ln    net.Listener
	mu    sync.Mutex
	open  chan struct{} // closed while traffic passes; guarded by mu
	conns []net.Conn    // guarded by mu
}

func newGate(t testing.TB, to string) *gate {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{ln: ln, open: make(chan struct{})}
	close(g.open)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = ln.Close(); cancel(); wg.Wait() })
	wg.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			context.AfterFunc(ctx, func() { _ = in.Close(); _ = out.Close() })
			g.mu.Lock()
			g.conns = append(g.conns, in, out)
			g.mu.Unlock()
			wg.Go(func() { g.pass(ctx, out, in) })
			wg.Go(func() { g.pass(ctx, in, out) })
		}
	})
	return g
}

func (g *gate) pass(ctx context.Context, dst, src net.Conn) {
	defer dst.Close()
	defer src.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		g.mu.Lock()
		open := g.open
		g.mu.Unlock()
		select {
		case <-open:
		case <-ctx.Done():
			return
		}
		if _, werr := dst.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

func (g *gate) reopen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
}

// lose breaks all connections, and what was under way on them.
func (g *gate) lose() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.conns {
		_ = c.Close()
	}
	g.conns = nil
}

// gatedPair is a controller behind a gate, and one that is not.
func gatedPair(t testing.TB, log *zap.Logger) (g *gate, gated, free *controller, etcd *clientv3.Client) {
	t.Helper()
	e, registry := startEtcd(t, nil), startRegistry(t)
	g = newGate(t, e.Clients[0].Addr().String())
	through, err := clientv3.New(clientv3.Config{Endpoints: []string{g.ln.Addr().String()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = through.Close() })
	etcd = dialEtcd(t, e)
	gated = startLogged(t, through, registry.URL, log, func(cfg *Config) { cfg.EtcdTimeout = 10 * time.Second })
	return g, gated, startController(t, etcd, registry.URL, nil), etcd
}

// A node goes from one state to another and back while a controller sees nothing
// of etcd. That one still has the first state, and must not take the return to it
// for nothing new: the other one is what is stored.
func TestHeartbeatWithNewsNeedsAFreshView(t *testing.T) {
	t.Parallel()
	g, gated, free, _ := gatedPair(t, zap.NewNop())
	n := newNode(t, "n1", gated)
	n.register()
	vm := &api.VMReport{Info: vmInfo("n1", "x")}
	n.vms["x"] = vm
	n.sync()
	g.close()
	n.call = free.client
	delete(n.vms, "x")
	n.sync()
	n.call = gated.client
	n.vms["x"] = vm
	if _, err := n.trySync(t.Context(), false); err == nil {
		t.Error("a controller that could not store it has acknowledged the VM")
	}
	g.reopen()
	eventually(t, "the VM is acknowledged", func() bool {
		_, err := n.trySync(t.Context(), false)
		return err == nil
	})
	n.call = free.client
	if resp, err := n.trySync(t.Context(), false); err != nil || resp.Resync {
		t.Errorf("the next heartbeat: %v, all parts are asked for: %v; want neither", err, resp.Resync)
	}
}

// A controller that has lost sight of etcd has a cache that is old. It must say
// that it cannot answer, and never answer from it.
func TestControllerWithAStaleCacheDoesNotAnswer(t *testing.T) {
	t.Parallel()
	g, gated, free, _ := gatedPair(t, zap.NewNop())
	node := newNode(t, "n1", gated, free)
	node.register()
	first := mustStart(t, gated, api.StartRequest{})
	g.close()
	second := mustStart(t, free, api.StartRequest{})
	if err := free.client().Terminate(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, path := range []string{"/api/v1/vm", "/api/v1/vm?id=" + string(first), "/api/v1/vm?id=" + string(second), "/api/v1/node"} {
		wg.Go(func() {
			if resp, err := http.Get(gated.URL + path); err != nil || resp.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("GET %s without etcd: %v %v, want 503", path, resp, err)
			} else {
				resp.Body.Close()
			}
		})
	}
	wg.Wait()
	g.reopen()
	eventually(t, "it answers again, with what happened meanwhile", func() bool {
		list, err := gated.client().Instances(t.Context())
		if err != nil {
			return false
		}
		for _, i := range list {
			if i.InstanceID == second {
				return true
			}
		}
		t.Fatalf("the first answer after the gap lacks an instance that was acknowledged: %v", list)
		return false
	})
}

// What etcd has forgotten of its history cannot be followed any more: the whole
// state is loaded anew, and what was deleted meanwhile is gone here as well.
func TestWatchBehindACompactionLoadsAnew(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.InfoLevel)
	g, gated, free, etcd := gatedPair(t, zap.New(core))
	node := newNode(t, "n1", free)
	node.register()
	gone := newNode(t, "gone", free)
	gone.register()
	for _, c := range []*controller{gated, free} {
		if nodes, err := c.client().Nodes(t.Context()); err != nil || len(nodes) != 2 {
			t.Fatalf("before the gap: %v %v", nodes, err)
		}
	}
	g.close()
	if _, err := free.client().Start(t.Context(), api.StartRequest{VMID: "tpl-1"}); err != nil {
		t.Fatal(err)
	}
	if code, body := do(t, "DELETE", free.URL+"/api/v1/node", `{"node_id":"gone"}`); code != http.StatusOK || !strings.Contains(body, `"OK"`) {
		t.Fatalf("delete node: %d %s", code, body)
	}
	resp, err := etcd.Put(t.Context(), "unrelated", "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := etcd.Compact(t.Context(), resp.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	g.lose() // else the events that wait on the way would still come
	g.reopen()
	eventually(t, "the compaction was noticed", func() bool {
		return logs.FilterMessage("watch fell behind compaction, loading anew").Len() > 0
	})
	eventually(t, "both controllers show the same", func() bool {
		nodes, err := gated.client().Nodes(t.Context())
		list, err2 := gated.client().Instances(t.Context())
		return err == nil && err2 == nil && len(nodes) == 1 && nodes[0].NodeID == "n1" && len(list) == 1
	})
	// And it follows from there.
	id := mustStart(t, free, api.StartRequest{})
	if got := state(t, gated, id); got.InstanceState != api.Scheduling {
		t.Errorf("after the load: %+v", got)
	}
}

// A proxy may keep a long poll that its sender gave up. What that poll is given
// under a reservation whose task has come by another one, nobody would hear of.
func TestPollThatWasGivenUpTakesNothing(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 2, nil)
	node := newNode(t, "n1", c.controllers...)
	node.register()
	poll := func(ctl *controller) cloud.Reservation {
		r := cloud.Reservation{ID: "11111111-2222-3333", Node: node.id, Session: node.session, Kinds: allKinds}
		if err := ctl.store.Fresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctl.store.Begin(&r)
		return r
	}
	claim := func(ctl *controller, r cloud.Reservation, id api.InstanceID) (*api.Task, error) {
		if err := ctl.store.Fresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		return ctl.store.Claim(t.Context(), r, id)
	}
	a, b := c.controllers[0], c.controllers[1]
	ghost, second := poll(a), poll(b)
	task, err := claim(b, second, mustStart(t, a, api.StartRequest{}))
	if err != nil || task == nil {
		t.Fatalf("claim: %v %v", task, err)
	}
	if node.start(task) {
		t.Fatal("abandoned")
	}
	// A repeat of the answered reservation, under way when the task was done.
	late := poll(b)
	next := mustStart(t, a, api.StartRequest{})
	if got, err := claim(a, ghost, next); !errors.Is(err, cloud.ErrSpent) {
		t.Errorf("the poll that was given up: %+v %v, want %v", got, err, cloud.ErrSpent)
	}
	if got, err := claim(b, late, next); err != nil || got == nil || got.InstanceID != next {
		t.Errorf("a poll that began after the task was over: %+v %v", got, err)
	}
}

// F28: etcd loses its data, or is restored from a backup, under controllers that
// run. They must not go on from memory, nor begin a new cloud.
func TestF28EtcdThatGoesBackUnderAController(t *testing.T) {
	t.Parallel()
	address, peer := freeURL(t), freeURL(t)
	start := func(dir string) (end func()) {
		return startMember(t, func(cfg *embed.Config) {
			cfg.Dir = dir
			cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{address}, []url.URL{address}
			cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
			cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
		}).end
	}
	data, backup := t.TempDir(), t.TempDir()
	end := start(data)
	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{address.Host}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = etcd.Close() })
	ctl := startController(t, etcd, startRegistry(t).URL, nil)
	before := mustStart(t, ctl, api.StartRequest{})
	end()
	if err := os.CopyFS(backup, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	end = start(data)
	var after api.InstanceID
	eventually(t, "a start after the backup", func() bool {
		ids, err := ctl.client().Start(t.Context(), api.StartRequest{VMID: "tpl-1"})
		if err == nil {
			after = ids[0]
		}
		return err == nil
	})
	state(t, ctl, after)
	end()

	end = start(t.TempDir()) // the data are lost
	eventually(t, "the controller says that etcd's data are lost", func() bool {
		code, body := do(t, "GET", ctl.URL+"/readyz", "")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "lost its data")
	})
	if code, body := do(t, "GET", ctl.URL+"/api/v1/vm", ""); code != http.StatusServiceUnavailable {
		t.Errorf("list without the data: %d %s", code, body)
	}
	if resp, err := etcd.Get(t.Context(), "/ankacluster/s/meta"); err != nil || len(resp.Kvs) != 0 {
		t.Errorf("a new cloud was begun: %v %v", resp, err)
	}
	end()

	end = start(backup)
	eventually(t, "the restored cloud is served", func() bool {
		code, _ := do(t, "GET", ctl.URL+"/readyz", "")
		return code == http.StatusOK
	})
	list, err := ctl.client().Instances(t.Context())
	if err != nil || len(list) != 1 || list[0].InstanceID != before {
		t.Errorf("after the restore: %v %v, want only the instance of before the backup", list, err)
	}
	mustStart(t, ctl, api.StartRequest{})
	ctl.stop()
	end()
}
