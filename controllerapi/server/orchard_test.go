package server

import (
	"testing"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/google/uuid"
	"go.etcd.io/etcd/client/v3"
)

func TestO2NodesGetAFullTimeoutAfterAnOutage(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, brisk)
	n := newNode(t, "n1", c.controllers...)
	n.register()
	id := mustStart(t, c.controllers[0], api.StartRequest{})
	n.start(n.reserve(api.TaskStart))
	n.sync()
	c.controllers[0].stop()
	eventually(t, "the node's lease has ended while no controller ran", func() bool {
		resp, err := c.etcd.Get(t.Context(), "/ankacluster/s/live/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && resp.Count == 0
	})
	back := startController(t, c.etcd, c.registry.URL, nil)
	if got := state(t, back, id); got.InstanceState != api.Started {
		t.Fatalf("right after the outage: %s", got.InstanceState)
	}
	eventually(t, "the new controller keeps the cloud", func() bool { return back.store.Keeping() })
	n.call = func() *api.Client { return back.client() }
	n.sync()
	node, err := back.client().Node(t.Context(), "n1")
	if err != nil || node.State != api.NodeActive {
		t.Errorf("node %s %v", node.State, err)
	}
	if got := state(t, back, id); got.InstanceState != api.Started {
		t.Errorf("after the node came back: %s", got.InstanceState)
	}
}

func TestO3AgentThatRestartsIsComparedWithTheCloud(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 2, nil)
	n := newNode(t, "n1", c.controllers...)
	n.register()
	kept, lost := mustStart(t, c.controllers[0], api.StartRequest{}), mustStart(t, c.controllers[0], api.StartRequest{})
	n.start(n.reserve(api.TaskStart))
	n.start(n.reserve(api.TaskStart))
	n.sync()
	n.kill(lost)
	n.session, n.seq = uuid.NewString(), 0
	n.register()
	if got := state(t, c.controllers[1], kept); got.InstanceState != api.Started {
		t.Errorf("the VM that runs: %s", got.InstanceState)
	}
	if got := state(t, c.controllers[1], lost); got.InstanceState != api.Error || got.Message == "" || got.VMInfo == nil {
		t.Errorf("the VM that is missing: %s %q", got.InstanceState, got.Message)
	}
}

func TestO4NodeMayTalkToADifferentControllerEachTime(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 3, nil)
	n := newNode(t, "n1", c.controllers...)
	reg, err := c.controllers[0].client().Register(t.Context(), api.RegisterRequest{NodeID: "n1", Session: n.session, SessionStarted: time.Now(), Facts: n.facts})
	if err != nil || reg.NodeID != "n1" {
		t.Fatal(err)
	}
	mustStart(t, c.controllers[0], api.StartRequest{})
	n.call = func() *api.Client { return c.controllers[1].client() }
	n.sync()
	n.call = func() *api.Client { return c.controllers[2].client() }
	if n.reserve(api.TaskStart) == nil {
		t.Error("no task")
	}
}

func TestO5HeartbeatsDoNotTouchWhatSchedulingCompares(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, nil)
	n := newNode(t, "n1", c.controllers...)
	n.register()
	revision := func(key string) int64 {
		resp, err := c.etcd.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.Kvs) == 0 {
			return 0
		}
		return resp.Kvs[0].ModRevision
	}
	id := mustStart(t, c.controllers[0], api.StartRequest{})
	keys := []string{"/ankacluster/s/node/n1", "/ankacluster/s/ledger/n1", "/ankacluster/s/instance/" + string(id)}
	var before []int64
	for _, k := range keys {
		before = append(before, revision(k))
	}
	for k := range 20 {
		n.images = append(n.images, api.NodeImage{UUID: "x", Tag: string(rune('a' + k))}) // something changes each time
		n.sync()
	}
	for k, key := range keys {
		if got := revision(key); got != before[k] {
			t.Errorf("%s was written by a heartbeat", key)
		}
	}
	state := revision("/ankacluster/s/state/n1")
	for range 20 {
		n.sync() // nothing changes
	}
	if revision("/ankacluster/s/state/n1") != state {
		t.Error("a heartbeat that says nothing new was written")
	}
}

func TestO7RebootEndsInErrorInOneHeartbeat(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, nil)
	n := newNode(t, "n1", c.controllers...)
	n.register()
	id := mustStart(t, c.controllers[0], api.StartRequest{})
	n.start(n.reserve(api.TaskStart))
	n.sync()
	n.vms[id].Info.Status = "stopped"
	n.session, n.seq = uuid.NewString(), 0
	n.register() // with its one heartbeat
	if got := state(t, c.controllers[0], id); got.InstanceState != api.Error || got.Message != "VM was stopped while the agent or its host restarted" {
		t.Errorf("after the reboot: %s %q", got.InstanceState, got.Message)
	}
}
