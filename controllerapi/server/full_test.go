package server

import (
	"net/http"
	"strings"
	"testing"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// smallEtcd has room for a dozen large start requests.
func smallEtcd(t testing.TB) *clientv3.Client {
	return dialEtcd(t, startEtcd(t, func(cfg *embed.Config) { cfg.QuotaBackendBytes = 12 << 20 }))
}

// fill starts instances until etcd is full, and returns the last answer.
func fill(t testing.TB, ctl *controller) (code int, body string) {
	t.Helper()
	big := `{"vmid":"tpl-1","node_id":"n1","startup_script":"` + strings.Repeat("eHh4", 220_000) + `"}`
	eventually(t, "etcd is full", func() bool {
		code, body = do(t, "POST", ctl.URL+"/api/v1/vm", big)
		return strings.Contains(body, "space") // an etcd that is only slow has another answer
	})
	return code, body
}

// makeRoom does what the operator of a full etcd does.
func makeRoom(t testing.TB, etcd *clientv3.Client) {
	t.Helper()
	ctx := t.Context()
	resp, err := etcd.Delete(ctx, "/ankacluster/u/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := etcd.Compact(ctx, resp.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	if _, err := etcd.Defragment(ctx, etcd.Endpoints()[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := etcd.AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil {
		t.Fatal(err)
	}
}

func TestF9FullEtcdIsToldAndPasses(t *testing.T) {
	t.Parallel()
	etcd := smallEtcd(t)
	ctl := startController(t, etcd, startRegistry(t).URL, nil)
	newNode(t, "n1", ctl).register()
	code, body := fill(t, ctl)
	if code != http.StatusServiceUnavailable || strings.TrimSpace(body) != `{"status":"FAIL","message":"etcd: database space exceeded"}` {
		t.Errorf("answer %d %s", code, body)
	}
	eventually(t, "readyz tells the alarm", func() bool {
		code, body := do(t, "GET", ctl.URL+"/readyz", "")
		return code == 503 && strings.Contains(body, "NOSPACE")
	})
	makeRoom(t, etcd)
	eventually(t, "starts work again without a restart", func() bool {
		code, _ := do(t, "POST", ctl.URL+"/api/v1/vm", `{"vmid":"tpl-1"}`)
		ready, _ := do(t, "GET", ctl.URL+"/readyz", "")
		return code == 200 && ready == 200
	})
}

// A node that is heard of is not Offline, and loses nothing, though what it says
// cannot be stored.
func TestF9NodesLiveThroughAFullEtcd(t *testing.T) {
	t.Parallel()
	etcd := smallEtcd(t)
	ctl := startController(t, etcd, startRegistry(t).URL, brisk)
	n := newNode(t, "n1", ctl)
	n.register()
	id := mustStart(t, ctl, api.StartRequest{})
	n.start(n.reserve(api.TaskStart))
	n.sync()
	beat(t, n)
	ttl := func() int64 {
		live, err := etcd.Get(t.Context(), "/ankacluster/s/live/n1")
		if err != nil || len(live.Kvs) != 1 {
			t.Fatalf("the node's lease is gone: %v", err)
		}
		lease, err := etcd.TimeToLive(t.Context(), clientv3.LeaseID(live.Kvs[0].Lease))
		if err != nil {
			t.Fatal(err)
		}
		return lease.TTL
	}
	fill(t, ctl)
	n.mu.Lock()
	n.images = []api.NodeImage{{UUID: "tpl-1", Tag: "v1"}} // news
	n.mu.Unlock()
	for range 3 { // longer than the lease lasts by itself
		last := ttl()
		eventually(t, "the lease is renewed", func() bool {
			was := last
			last = ttl()
			return last > was
		})
	}
	makeRoom(t, etcd)
	eventually(t, "the news is stored", func() bool {
		node, err := ctl.client().Node(t.Context(), "n1")
		return err == nil && node.State == api.NodeActive && len(node.Templates) == 1
	})
	if got := state(t, ctl, id); got.InstanceState != api.Started {
		t.Errorf("the instance is %s: %s", got.InstanceState, got.Message)
	}
}

// While nothing could be stored, nodes could not come back either: they get their
// time when there is room again.
func TestF9NodesGetTheirTimeAfterAFullEtcd(t *testing.T) {
	t.Parallel()
	etcd := smallEtcd(t)
	core, logs := observer.New(zap.WarnLevel)
	// Brisk is less than the keeper's time between two ticks of the clock.
	ctl := startLogged(t, etcd, startRegistry(t).URL, zap.New(core), brisk)
	n := newNode(t, "n1", ctl)
	n.register()
	id := mustStart(t, ctl, api.StartRequest{})
	n.start(n.reserve(api.TaskStart))
	n.sync()
	silent := beat(t, n)
	fill(t, ctl)
	silent()
	silence(t, etcd, "n1")
	eventually(t, "the keeper stands still", func() bool { return logs.FilterMessage("clock not moved").Len() > 0 })
	clock := func() int64 {
		resp, err := etcd.Get(t.Context(), "/ankacluster/s/clock")
		if err != nil || len(resp.Kvs) != 1 {
			t.Fatalf("clock: %v %v", resp, err)
		}
		return resp.Kvs[0].ModRevision
	}
	stood := clock()
	makeRoom(t, etcd)
	eventually(t, "the keeper goes on", func() bool { return clock() > stood })
	beat(t, n)
	eventually(t, "the node is back", func() bool {
		node, err := ctl.client().Node(t.Context(), "n1")
		return err == nil && node.State == api.NodeActive
	})
	if got := state(t, ctl, id); got.InstanceState != api.Started {
		t.Errorf("the instance is %s: %s", got.InstanceState, got.Message)
	}
}
