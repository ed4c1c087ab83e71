package server

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/google/uuid"
	"go.etcd.io/etcd/client/v3"
)

// In resource mode a VM takes what its template asks for, when the start request
// does not say; the first VM of a template tells how much that is.
func TestResourceModeCountsTheTemplatesOwnSize(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 2, nil)
	n := newNode(t, "n1", c.controllers...)
	n.seed = api.SeedSettings{CapacityMode: new("resource"), VCPUOverride: new(8), RAMOverride: new(16384), IgnoreARMVMLimit: new(true)}
	n.register()
	fits := func(id api.InstanceID) (fits bool) {
		t.Helper()
		store := c.controllers[1].store
		if err := store.Fresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		store.Read(func(v *cloud.View) {
			fits = v.ScheduleNode(v.Nodes[n.id], v.Now()).Fits(v.ScheduleTask(v.Instances[id]), time.Now())
		})
		return fits
	}
	for k := range 2 { // the VMs have 4 cores and 4 GB each
		id := mustStart(t, c.controllers[0], api.StartRequest{})
		if !fits(id) {
			t.Fatalf("VM %d does not fit an 8 core node", k+1)
		}
		if n.start(n.reserve(api.TaskStart)) {
			t.Fatal("abandoned")
		}
		n.sync()
	}
	if id := mustStart(t, c.controllers[0], api.StartRequest{}); fits(id) {
		t.Error("a third VM of 4 cores fits an 8 core node")
	}
	if id := mustStart(t, c.controllers[0], api.StartRequest{VCPU: 1, VRAM: 1024}); fits(id) {
		t.Error("a VM of one core fits a node whose cores are all taken")
	}
	other := newNode(t, "n2", c.controllers...)
	other.seed = api.SeedSettings{CapacityMode: new("resource"), VCPUOverride: new(3), RAMOverride: new(16384)}
	other.register()
	n = other
	if id := mustStart(t, c.controllers[0], api.StartRequest{}); fits(id) {
		t.Error("a VM of 4 cores fits a 3 core node")
	}
	if id := mustStart(t, c.controllers[0], api.StartRequest{VCPU: 1}); !fits(id) {
		t.Error("a VM that asks for one core does not fit a 3 core node")
	}
}

// Start requests go with the last of their instances. What is left all the same
// is found by the keeper.
func TestStartRequestsWithoutInstancesAreSwept(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, nil)
	mustStart(t, c.controllers[0], api.StartRequest{})
	c.controllers[0].stop()
	const left, dir = "/ankacluster/u/request/left-over", "/ankacluster/u/request/"
	if _, err := c.etcd.Put(t.Context(), left, "{}"); err != nil {
		t.Fatal(err)
	}
	startController(t, c.etcd, c.registry.URL, nil)
	keys := func() (list []string) {
		resp, err := c.etcd.Get(t.Context(), dir, clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range resp.Kvs {
			list = append(list, strings.TrimPrefix(string(kv.Key), dir))
		}
		return list
	}
	eventually(t, "what no instance has is gone", func() bool { return len(keys()) == 1 })
	if k := keys()[0]; k == "left-over" {
		t.Errorf("the request of an instance that waits was swept, and %s stayed", k)
	}
}

// edit changes a record of etcd.
func edit(t *testing.T, etcd *clientv3.Client, key string, change func(record map[string]any)) {
	t.Helper()
	resp, err := etcd.Get(t.Context(), key)
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatalf("%s: %v %v", key, resp, err)
	}
	var record map[string]any
	if err := json.Unmarshal(resp.Kvs[0].Value, &record); err != nil {
		t.Fatal(err)
	}
	change(record)
	data, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := etcd.Put(t.Context(), key, string(data)); err != nil {
		t.Fatal(err)
	}
}

const instanceDir = "/ankacluster/s/instance/"

// The day counts from when it came into the queue, which may be long after it was
// created.
func TestStartThatNoNodeTookForADayIsEnded(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, func(cfg *Config) { cfg.CleanQueuesInterval = time.Second })
	ctl := c.controllers[0]
	start := func() api.InstanceID { return mustStart(t, ctl, api.StartRequest{}) }
	returned, old := start(), start()
	c.pass(23 * time.Hour)
	young := start()
	edit(t, c.etcd, instanceDir+string(returned), func(record map[string]any) {
		record["avoid"] = []map[string]any{{"node": "n1", "at": time.Now()}}
	})
	eventually(t, "it has come back", func() (back bool) {
		ctl.store.Read(func(v *cloud.View) { back = len(v.Instances[returned].Avoid) == 1 })
		return back
	})
	c.pass(2 * time.Hour)
	eventually(t, "the old one is in error", func() bool { return state(t, ctl, old).InstanceState == api.Error })
	if got := state(t, ctl, old); !strings.Contains(got.Message, "no node has taken it") {
		t.Errorf("message %q", got.Message)
	}
	for _, id := range []api.InstanceID{young, returned} {
		if got := state(t, ctl, id); got.InstanceState != api.Scheduling {
			t.Errorf("one that has not waited for a day is %s: %s", got.InstanceState, got.Message)
		}
	}
}

// F25: a restart of which nothing is heard ends.
func TestF25RestartWithoutAnEndIsInError(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, nil)
	ctl := c.controllers[0]
	n := newNode(t, "n1", ctl)
	n.register()
	beat(t, n)
	id := mustStart(t, ctl, api.StartRequest{})
	n.start(n.reserve(api.TaskStart))
	if _, body := do(t, "POST", ctl.URL+"/api/v1/rpc/vm/restart", `{"instance_id":"`+string(id)+`"}`); !strings.Contains(body, `"OK"`) {
		t.Fatal(body)
	}
	n.reserve(api.TaskRestart) // and no report
	c.pass(31 * time.Minute)
	eventually(t, "the instance is in error", func() bool { return state(t, ctl, id).InstanceState == api.Error })
	if got := state(t, ctl, id); !strings.Contains(got.Message, "not restarted within") || got.VMInfo == nil {
		t.Errorf("message %q, VM %v", got.Message, got.VMInfo)
	}
}

func TestReserveIsHeldAsLongAsTheSettingSays(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, func(cfg *Config) { cfg.ReserveTaskTimeout, cfg.Claims = time.Second, 1 })
	n := newNode(t, "n1", c.controllers...)
	n.register()
	begun := time.Now()
	task, err := n.tryReserve(t.Context(), uuid.NewString(), 50*time.Second)
	if took := time.Since(begun); task != nil || err != nil || took < time.Second || took > 40*time.Second {
		t.Errorf("an empty queue: %v %v after %v, want nothing after 1s", task, err, took)
	}
	for range 2 { // one place for claims is enough for all of them, one after the other
		id := mustStart(t, c.controllers[0], api.StartRequest{})
		eventually(t, "it is handed out", func() bool {
			task, err := n.tryReserve(t.Context(), uuid.NewString(), time.Second, api.TaskStart)
			return err == nil && task != nil && task.InstanceID == id
		})
	}
}

// An instance's own patience with a silent node may be longer than the node's.
func TestInstanceOutlivesItsNodesTimeoutIfItMay(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, func(cfg *Config) {
		brisk(cfg)
		cfg.InstanceActiveTimeout = 24 * time.Hour
	})
	n := newNode(t, "n1", c.controllers...)
	n.register()
	silent := beat(t, n)
	id := mustStart(t, c.controllers[0], api.StartRequest{})
	if n.start(n.reserve(api.TaskStart)) {
		t.Fatal("abandoned")
	}
	waiting := mustStart(t, c.controllers[0], api.StartRequest{})
	if got := n.reserve(api.TaskStart); got.InstanceID != waiting {
		t.Fatalf("reserved %+v", got)
	}
	silent()
	silence(t, c.etcd, "n1")
	// The one that has not started goes to another node; that the keeper has seen
	// the node offline is known from it.
	eventually(t, "the start is free again", func() bool {
		got := state(t, c.controllers[0], waiting)
		return got.InstanceState == api.Scheduling && got.NodeID == ""
	})
	if got := state(t, c.controllers[0], id); got.InstanceState != api.Started {
		t.Errorf("the instance is %s: %s", got.InstanceState, got.Message)
	}
}
