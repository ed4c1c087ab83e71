package server

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/google/uuid"
	"go.etcd.io/etcd/client/v3"
)

// F24: what comes and goes leaves nothing in memory. The long form is `make soak`,
// which runs for as long as one likes; this one looks at what grows with every
// instance and every long poll when it leaks.
func TestF24LivesAndPollsLeaveNothingInMemory(t *testing.T) {
	c := startCloud(t, 1, nil)
	ctl := c.controllers[0]
	n := newNode(t, "n1", ctl)
	n.register()
	lives := func(count int) {
		for range count {
			id := mustStart(t, ctl, api.StartRequest{})
			if n.start(n.reserve(api.TaskStart)) {
				t.Fatal("abandoned")
			}
			n.sync()
			if err := ctl.client().Terminate(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			n.terminate(n.reserve(api.TaskTerminate))
			n.sync()
			if _, err := n.tryReserve(t.Context(), uuid.NewString(), time.Millisecond); err != nil {
				t.Fatal(err)
			}
		}
	}
	lives(20)
	before := runtime.NumGoroutine()
	lives(200)
	// Goroutines of connections and hedges end a moment later.
	eventually(t, "the goroutines of 200 lives are gone", func() bool { return runtime.NumGoroutine() <= before+20 })
	d := ctl.disp
	d.mu.Lock()
	for id, o := range d.offered { // as if offerLife had passed
		o.at = o.at.Add(-offerLife)
		d.offered[id] = o
	}
	d.mu.Unlock()
	// Nodes that came and went, of which placement was told.
	for k := range 20 {
		gone := newNode(t, fmt.Sprintf("gone-%d", k), ctl)
		gone.register()
		if err := ctl.client().Unregister(t.Context(), api.UnregisterRequest{NodeID: gone.id, Session: gone.session}); err != nil {
			t.Fatal(err)
		}
	}
	lives(1) // the round that offers it forgets the others
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.waiters) > 0 || len(d.charged) > 0 {
		t.Errorf("%d nodes with polls and %d with offers are kept, with none waiting", len(d.waiters), len(d.charged))
	}
	if _, own := d.dirty[n.id]; len(d.offered) > 1 || len(d.dirty) > 1 || len(d.dirty) == 1 && !own {
		t.Errorf("%d offers and %d changed nodes are kept", len(d.offered), len(d.dirty))
	}
}

func TestF8RemovedNodeLeavesNoKey(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, nil)
	ctl := c.controllers[0]
	n := newNode(t, "n1", ctl)
	n.register()
	for _, call := range []struct{ path, body string }{
		{"/api/v1/group", `{"name":"g"}`},
		{"/api/v1/registry/vm/distribute", `{"template_id":"tpl-1"}`},
	} {
		code, answer := do(t, "POST", ctl.URL+call.path, call.body)
		if code != 200 || !strings.Contains(answer, `"OK"`) {
			t.Fatal(answer)
		}
		if call.path == "/api/v1/group" {
			do(t, "POST", ctl.URL+"/api/v1/node/group", `{"group_ids":["`+uuids.FindString(answer)+`"],"node_ids":["n1"]}`)
		}
	}
	n.report(api.ReportRequest{TaskID: n.reserve(api.TaskDistribute).ID, Seq: 1, Phase: api.PhaseProgress, Progress: 0.5})
	mustStart(t, ctl, api.StartRequest{})
	n.reserve(api.TaskStart)
	about := func() (keys []string) {
		resp, err := c.etcd.Get(t.Context(), "/ankacluster/", clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range resp.Kvs {
			key := string(kv.Key)
			if strings.HasSuffix(key, "/n1") || strings.Contains(key, "/member/") && strings.Contains(string(kv.Value), `"n1"`) {
				keys = append(keys, key)
			}
		}
		return keys
	}
	if keys := about(); len(keys) != 6 { // node, state, live, ledger, member, jobnode
		t.Fatalf("before: %v", keys)
	}
	if _, body := do(t, "DELETE", ctl.URL+"/api/v1/node", `{"node_id":"n1"}`); !strings.Contains(body, `"OK"`) {
		t.Fatal(body)
	}
	if keys := about(); len(keys) != 0 {
		t.Errorf("after: %v", keys)
	}
}

// Also a controller that was not asked to remove the node keeps nothing of it,
// and none keeps anything of a node that there never was.
func TestF24NodesThatAreNoMoreAreForgottenByEveryController(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 2, nil)
	a, b := c.controllers[0], c.controllers[1]
	n := newNode(t, "n1", a, b)
	n.register()
	n.sync()
	n.sync() // each controller has heard of it
	if a.store.Renewed("n1").IsZero() || b.store.Renewed("n1").IsZero() {
		t.Fatal("a controller does not know when the lease was renewed")
	}
	up, ok := a.store.RenewedUptime("n1")
	if !ok {
		t.Fatal("the renewal cannot be told to others")
	}
	token := tokenKind + strconv.FormatInt(up.Milliseconds(), 36)
	if err := a.client().Unregister(t.Context(), api.UnregisterRequest{NodeID: n.id, Session: n.session}); err != nil {
		t.Fatal(err)
	}
	for _, ctl := range c.controllers {
		eventually(t, "the node is forgotten", func() bool { return ctl.store.Renewed("n1").IsZero() })
		_, err := ctl.client().Sync(t.Context(), api.SyncRequest{NodeID: "n1", Session: n.session, Token: token})
		if !errors.Is(err, api.ErrUnknownNode) || !ctl.store.Renewed("n1").IsZero() {
			t.Errorf("a heartbeat of no node: %v, renewed %s", err, ctl.store.Renewed("n1"))
		}
	}
}
