package server

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/google/uuid"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// The tests of this file are named after the failures that users met in the
// field; docs/requirements.md lists them.

// brisk makes the time that nodes have short, but longer than a busy machine may
// stand still.
func brisk(cfg *Config) {
	cfg.HeartbeatInterval = 200 * time.Millisecond
	cfg.NodeActiveTimeout = 15 * time.Second
	cfg.InstanceActiveTimeout = 15 * time.Second
}

// silence ends a node's lease, as if it had not been heard of for its time; on a
// busy machine it has ended already.
func silence(t testing.TB, etcd *clientv3.Client, node string) {
	t.Helper()
	live, err := etcd.Get(t.Context(), "/ankacluster/s/live/"+node)
	if err != nil {
		t.Fatalf("the node's lease: %v", err)
	}
	if len(live.Kvs) == 0 {
		return
	}
	if _, err := etcd.Revoke(t.Context(), clientv3.LeaseID(live.Kvs[0].Lease)); err != nil {
		t.Fatal(err)
	}
}

func mustStart(t testing.TB, c *controller, req api.StartRequest) api.InstanceID {
	t.Helper()
	if req.VMID == "" {
		req.VMID = "tpl-1"
	}
	ids, err := c.client().Start(t.Context(), req)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	return ids[0]
}

func state(t testing.TB, c *controller, id api.InstanceID) api.Instance {
	t.Helper()
	got, err := c.client().Instance(t.Context(), id)
	if err != nil {
		t.Fatalf("instance %s: %v", id, err)
	}
	return got
}

// beat syncs the nodes until the test ends.
func beat(t testing.TB, nodes ...*fakeNode) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, n := range nodes {
		wg.Go(func() {
			for ctx.Err() == nil {
				resp, err := n.trySync(ctx, n.last.Resync)
				_, _ = resp, err // a controller may be down; the next beat asks another
				select {
				case <-time.After(200 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

func TestF2TwoNodesAskAndOneRuns(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 3, nil)
	a, b := newNode(t, "n1", c.controllers...), newNode(t, "n2", c.controllers...)
	a.register()
	b.register()
	for range 20 {
		var wg sync.WaitGroup
		tasks := make([]*api.Task, 2)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		id := mustStart(t, c.controllers[0], api.StartRequest{})
		for k, n := range []*fakeNode{a, b} {
			wg.Go(func() {
				tasks[k], _ = n.tryReserve(ctx, uuid.NewString(), maxReserveWait, api.TaskStart)
				if tasks[k] != nil {
					cancel() // the other would wait for nothing
				}
			})
		}
		wg.Wait()
		cancel()
		// A controller that has not seen yet that a poll's caller left would claim the
		// next start for it; an agent would learn of that from its heartbeat.
		eventually(t, "no poll is left", func() bool {
			n := 0
			for _, ctl := range c.controllers {
				n += ctl.disp.waitingPolls()
			}
			return n == 0
		})
		if (tasks[0] == nil) == (tasks[1] == nil) {
			t.Fatalf("instance %s: tasks %v and %v: exactly one node must have it", id, tasks[0], tasks[1])
		}
		if err := c.controllers[1].client().Terminate(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		n := a
		if tasks[1] != nil {
			n = b
		}
		n.terminate(n.reserve(api.TaskTerminate))
	}
}

func TestF2VMOfASupersededAttemptIsRemoved(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 2, brisk)
	a, b := newNode(t, "n1", c.controllers...), newNode(t, "n2", c.controllers...)
	a.register()
	id := mustStart(t, c.controllers[0], api.StartRequest{})
	first := a.reserve(api.TaskStart)
	silence(t, c.etcd, "n1") // a is cut off from the cloud
	b.register()
	beat(t, b) // until the end: a node that is silent loses its instances
	second := b.reserve(api.TaskStart)
	if second.InstanceID != id || second.Attempt != 2 {
		t.Fatalf("after the first node was lost: %+v", second)
	}
	if b.start(second) {
		t.Fatal("second attempt was abandoned")
	}
	if !a.start(first) {
		t.Error("the first node may still report the instance as its own")
	}
	info := vmInfo("n1", string(id))
	a.vms[id] = &api.VMReport{InstanceID: id, Attempt: 1, Managed: true, Info: info}
	a.sync()
	if len(a.remove) != 1 || a.remove[0] != info.UUID {
		t.Errorf("VMs to remove at the first node: %v", a.remove)
	}
	if got := state(t, c.controllers[1], id); got.InstanceState != api.Started || got.NodeID != "n2" {
		t.Errorf("instance is %s on %s", got.InstanceState, got.NodeID)
	}
}

func TestF3TerminateDuringPullLeavesNoVM(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 3, nil)
	n := newNode(t, "n1", c.controllers...)
	n.seed.MaxVMCount, n.seed.IgnoreARMVMLimit = new(50), new(true)
	n.register()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var wg sync.WaitGroup
	stages := []string{api.StagePulling, api.StageCloning, api.StageStarting, api.StageScript}
	times := 60
	if os.Getenv("ANKA_LONG") != "" {
		times = 500
	}
	for k := range times {
		id := mustStart(t, c.controllers[k%3], api.StartRequest{})
		delay := time.Duration(rng.Int64N(int64(30 * time.Millisecond)))
		wg.Go(func() {
			time.Sleep(delay) // the random moment is the subject
			if err := c.controllers[(k+1)%3].client().Terminate(t.Context(), id); err != nil {
				t.Errorf("terminate: %v", err)
			}
		})
		if task, err := n.tryReserve(t.Context(), uuid.NewString(), 50*time.Millisecond, api.TaskStart); err == nil && task != nil {
			gone := false
			for seq, stage := range stages {
				if gone = n.report(api.ReportRequest{TaskID: task.ID, Attempt: task.Attempt, Seq: int64(seq + 1), Phase: api.PhaseProgress, Stage: stage}); gone {
					break
				}
			}
			if !gone {
				info := vmInfo(n.id, string(task.InstanceID))
				n.mu.Lock()
				n.vms[task.InstanceID] = &api.VMReport{InstanceID: task.InstanceID, Attempt: task.Attempt, Managed: true, Info: info}
				n.mu.Unlock()
				if n.report(api.ReportRequest{TaskID: task.ID, Attempt: task.Attempt, Seq: 9, Phase: api.PhaseDone, VM: &info}) {
					n.kill(task.InstanceID)
				}
			}
		}
	}
	wg.Wait()
	eventually(t, "every instance has ended", func() bool {
		task, err := n.tryReserve(t.Context(), uuid.NewString(), 100*time.Millisecond, api.TaskTerminate)
		if err != nil {
			t.Fatal(err)
		}
		if task != nil {
			n.terminate(task)
			return false
		}
		list, err := c.controllers[0].client().Instances(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return !slices.ContainsFunc(list, func(i api.ListedInstance) bool { return i.VM.InstanceState != api.Terminated })
	})
	if len(n.vms) != 0 {
		t.Errorf("%d VMs are left", len(n.vms))
	}
}

func TestF4NothingLeadsBackFromTerminating(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 2, nil)
	n := newNode(t, "n1", c.controllers...)
	n.register()
	id := mustStart(t, c.controllers[0], api.StartRequest{})
	task := n.reserve(api.TaskStart)
	if err := c.controllers[1].client().Terminate(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	info := vmInfo("n1", string(id))
	for seq, phase := range []api.TaskPhase{api.PhaseProgress, api.PhaseDone, api.PhaseFailed, api.PhaseReturned} {
		if !n.report(api.ReportRequest{TaskID: task.ID, Seq: int64(seq + 1), Phase: phase, VM: &info}) {
			t.Errorf("report %s after the terminate: must be told to abandon", phase)
		}
	}
	n.vms[id] = &api.VMReport{InstanceID: id, Attempt: 1, Managed: true, Info: info}
	n.sync()
	if got := state(t, c.controllers[0], id).InstanceState; got != api.Terminating {
		t.Errorf("state is %s", got)
	}
}

func TestF5F6UnknownVMIsRemovedAfterTheThresholdAndNotBefore(t *testing.T) {
	t.Parallel()
	const threshold = 5
	c := startCloud(t, 3, func(cfg *Config) { cfg.UnknownVMThreshold = threshold })
	n := newNode(t, "n1", c.controllers...)
	n.register()
	id := mustStart(t, c.controllers[0], api.StartRequest{})
	task := n.reserve(api.TaskStart)
	// A VM whose start is not yet reported is known (F6).
	known := vmInfo("n1", string(id))
	n.vms[id] = &api.VMReport{InstanceID: id, Attempt: task.Attempt, Managed: true, Info: known}
	stray, foreign := vmInfo("n1", "stray"), vmInfo("n1", "foreign")
	n.vms["stray"] = &api.VMReport{Managed: true, Info: stray}
	n.vms["foreign"] = &api.VMReport{Managed: false, Info: foreign}
	for k := 1; k < threshold; k++ {
		if n.sync(); len(n.remove) != 0 {
			t.Fatalf("after %d reports: remove %v", k, n.remove)
		}
	}
	n.sync()
	if len(n.remove) != 1 || n.remove[0] != stray.UUID {
		t.Fatalf("after %d reports: remove %v, want only %s", threshold, n.remove, stray.UUID)
	}
	n.kill("stray")
	if n.start(task) {
		t.Fatal("start was abandoned")
	}
	if err := c.controllers[0].client().Terminate(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	n.report(api.ReportRequest{TaskID: api.TerminateTaskID(id), Seq: 1, Phase: api.PhaseDone})
	// The VM that was just terminated is still in this report.
	for range threshold + 2 {
		if n.sync(); len(n.remove) != 0 {
			t.Fatalf("just terminated: remove %v", n.remove)
		}
	}
}

func TestF7ClaimOfADeadNodeIsFreeAgain(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 2, brisk)
	dead, alive := newNode(t, "n1", c.controllers...), newNode(t, "n2", c.controllers...)
	dead.register()
	id := mustStart(t, c.controllers[0], api.StartRequest{})
	dead.reserve(api.TaskStart)
	silence(t, c.etcd, "n1")
	alive.register()
	beat(t, alive)
	task := alive.reserve(api.TaskStart)
	if task.InstanceID != id || task.Attempt != 2 {
		t.Fatalf("got %+v", task)
	}
	if alive.start(task) {
		t.Fatal("abandoned")
	}
	eventually(t, "the queue is empty and the dead node is Offline", func() bool {
		n, err := c.controllers[1].client().Node(t.Context(), "n1")
		_, body := do(t, "GET", c.controllers[1].URL+"/api/v1/stats", "")
		return err == nil && n.State == api.NodeOffline && strings.Contains(body, `"queue_length":0`)
	})
}

func TestF7TaskThatTheNodeLostGoesBackToTheQueue(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 2, nil)
	n := newNode(t, "n1", c.controllers...)
	n.register()
	id := mustStart(t, c.controllers[0], api.StartRequest{})
	n.reserve(api.TaskStart)
	// The agent's process dies and comes back without the task.
	n.session, n.seq = uuid.NewString(), 0
	n.register()
	eventually(t, "the instance waits again", func() bool {
		n.sync()
		return state(t, c.controllers[1], id).NodeID == ""
	})
	if task := n.reserve(api.TaskStart); task.InstanceID != id || task.Attempt != 2 {
		t.Errorf("task %+v, want another attempt of the same instance", task)
	}
}

// One task an instance and kind, however often it is asked for.
func TestF7TerminatingTwiceIsOneTask(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 2, nil)
	n := newNode(t, "n1", c.controllers...)
	n.register()
	id := mustStart(t, c.controllers[0], api.StartRequest{})
	n.start(n.reserve(api.TaskStart))
	for _, ctl := range c.controllers {
		if err := ctl.client().Terminate(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	n.reserve(api.TaskTerminate)
	for range c.controllers {
		if task, err := n.tryReserve(t.Context(), uuid.NewString(), 100*time.Millisecond); task != nil || err != nil {
			t.Errorf("handed out again: %+v %v", task, err)
		}
	}
}

func TestF8JoinAndDisjoinLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, nil)
	n := newNode(t, "n1", c.controllers...)
	cycle := func() {
		n.session, n.seq = uuid.NewString(), 0
		n.register()
		if err := n.call().Unregister(t.Context(), api.UnregisterRequest{NodeID: n.id, Session: n.session}); err != nil {
			t.Fatal(err)
		}
	}
	keys := func() int {
		resp, err := c.etcd.Get(t.Context(), "/ankacluster/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err != nil {
			t.Fatal(err)
		}
		own := 0 // the controllers' own keys come and go
		for _, kv := range resp.Kvs {
			if strings.HasPrefix(string(kv.Key), "/ankacluster/s/load/") || strings.HasPrefix(string(kv.Key), "/ankacluster/s/leader/") {
				own++
			}
		}
		return len(resp.Kvs) - own
	}
	cycle()
	before := keys()
	for range 200 {
		cycle()
	}
	if after := keys(); after != before {
		t.Errorf("%d keys before 200 cycles, %d after", before, after)
	}
	if err := n.call().Unregister(t.Context(), api.UnregisterRequest{NodeID: n.id, Session: n.session}); err != nil {
		t.Errorf("second disjoin: %v", err)
	}
}

func TestF12StatusIsTheSameOnEveryController(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 2, nil)
	for _, ctl := range c.controllers {
		eventually(t, "the registry is known to run", ctl.catalog.running)
	}
	// Who answers is the one thing that differs.
	status := func(ctl *controller) string {
		_, body := do(t, "GET", ctl.URL+"/api/v1/status", "")
		rest, own := strings.CutSuffix(strings.TrimSpace(body), `,"server_id":"`+ctl.cfg.ID+`"}}`)
		if !own {
			t.Fatalf("%s does not end in the server_id %s", body, ctl.cfg.ID)
		}
		ready, err := http.Get(ctl.URL + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		ready.Body.Close()
		if id := ready.Header.Get("X-Server-Id"); id != ctl.cfg.ID {
			t.Errorf("readyz names server %q, want %q", id, ctl.cfg.ID)
		}
		return rest
	}
	want := status(c.controllers[0])
	for k := range 1000 {
		if got := status(c.controllers[k%2]); got != want {
			t.Fatalf("answer %d: %s, first was %s", k, got, want)
		}
	}
}

func TestF13ListsAreTheSameOnAllReplicasAtOnce(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 3, nil)
	for k := range 60 {
		name := fmt.Sprintf("group-%d", k)
		if code, body := do(t, "POST", c.controllers[k%3].URL+"/api/v1/group", `{"name":"`+name+`"}`); code != 200 {
			t.Fatal(body)
		}
		for _, ctl := range c.controllers {
			if _, body := do(t, "GET", ctl.URL+"/api/v1/group", ""); !strings.Contains(body, `"`+name+`"`) {
				t.Fatalf("%s is missing right after it was made", name)
			}
		}
	}
}

func TestF16F17NoInstanceIsEverMissing(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 3, nil)
	var mu sync.Mutex
	known := make(map[api.InstanceID]string)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			client := c.controllers[w].client()
			var own []api.InstanceID
			for k := 0; ctx.Err() == nil; k++ {
				ext := fmt.Sprintf("%d-%d", w, k)
				ids, err := client.Start(context.WithoutCancel(ctx), api.StartRequest{VMID: "tpl-1", ExternalID: ext})
				if err != nil {
					t.Errorf("start: %v", err)
					return
				}
				own = append(own, ids[0])
				mu.Lock()
				known[ids[0]] = ext
				mu.Unlock()
				if len(own) < 20 {
					continue
				}
				mu.Lock()
				delete(known, own[0])
				mu.Unlock()
				if err := client.Terminate(context.WithoutCancel(ctx), own[0]); err != nil {
					t.Errorf("terminate: %v", err)
					return
				}
				own = own[1:]
			}
		})
	}
	times := 100
	if os.Getenv("ANKA_LONG") != "" {
		times = 10_000
	}
	for k := range times {
		mu.Lock()
		want := make(map[api.InstanceID]string, len(known))
		for id, ext := range known {
			want[id] = ext
		}
		mu.Unlock()
		list, err := c.controllers[k%3].client().Instances(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range list {
			if i.VM.Tag == "" || i.VM.VMID == "" || i.VM.ExternalID == "" || i.VM.Arch == "" {
				t.Fatalf("fields are missing: %+v", i.VM)
			}
			delete(want, i.InstanceID)
		}
		mu.Lock()
		for id := range want {
			if _, still := known[id]; still {
				t.Fatalf("list %d lacks %s, which was acknowledged and not terminated", k, id)
			}
		}
		mu.Unlock()
	}
	cancel()
	wg.Wait()
}

func TestF19F20VMFieldsStayThroughErrorAndRestart(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 2, nil)
	n := newNode(t, "n1", c.controllers...)
	n.register()
	id := mustStart(t, c.controllers[0], api.StartRequest{})
	n.start(n.reserve(api.TaskStart))
	if code, body := do(t, "POST", c.controllers[0].URL+"/api/v1/rpc/vm/restart", `{"instance_id":"`+string(id)+`"}`); code != 200 || !strings.Contains(body, `"OK"`) {
		t.Fatal(body)
	}
	task := n.reserve(api.TaskRestart)
	stopped := vmInfo("n1", string(id))
	stopped.Status = "stopped"
	n.vms[id].Info = stopped
	n.sync()
	if got := state(t, c.controllers[1], id); got.InstanceState != api.Started || got.VMInfo.Status != "stopped" {
		t.Errorf("in the middle of a restart: %s, VM %s", got.InstanceState, got.VMInfo.Status)
	}
	n.report(api.ReportRequest{TaskID: task.ID, Seq: 1, Phase: api.PhaseFailed, Message: "start failed"})
	got := state(t, c.controllers[1], id)
	if got.InstanceState != api.Error || got.Message != "start failed" || got.VMInfo == nil || got.VMInfo.HostIP == "" {
		t.Errorf("after the failure: %+v", got)
	}
}

func TestF21NodeIsListedWithStateAndArchOrNotAtAll(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, nil)
	n := newNode(t, "n1", c.controllers...)
	n.facts.HostArch = ""
	_, err := n.call().Register(t.Context(), api.RegisterRequest{NodeID: "n1", Session: "s", Facts: n.facts})
	if refused, ok := api.Answered(err); !ok || !strings.Contains(refused.Message, "host_arch") {
		t.Errorf("register without an architecture: %v", err)
	}
	n.facts.HostArch = "arm64"
	if _, err := n.call().Register(t.Context(), api.RegisterRequest{NodeID: "n1", Session: "s", SessionStarted: time.Now(), Facts: n.facts}); err != nil {
		t.Fatal(err)
	}
	got, err := c.controllers[0].client().Node(t.Context(), "n1")
	if err != nil || got.State != api.NodeActive || got.HostArch != "arm64" || got.NodeName == "" {
		t.Errorf("before its first report: %+v %v", got, err)
	}
}

func TestF22WrongSettingNamesItsVariable(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.ID = "x"
	cfg.LocalRegistryURL = "registry:8089"
	cfg.ManageMACAddresses, cfg.MACRange = true, "02:00"
	_, err := New(cfg, nil, zap.NewNop())
	for _, name := range []string{"ANKA_ANKA_REGISTRY", "ANKA_LOCAL_ANKA_REGISTRY", "ANKA_MAC_ADDR_RANGE"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in: %v", name, err)
		}
	}
}

func TestF25StuckPushEndsInError(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, nil)
	ctl := c.controllers[0]
	n := newNode(t, "n1", c.controllers...)
	n.register()
	id := mustStart(t, ctl, api.StartRequest{})
	n.start(n.reserve(api.TaskStart))
	save := func(body string) string {
		_, got := do(t, "POST", ctl.URL+"/api/v1/image", body)
		return got
	}
	if got := save(`{"id":"` + string(id) + `","tag":"x","target_vm_id":"none"}`); !strings.Contains(got, "VM not in the registry") {
		t.Errorf("unknown target: %s", got)
	}
	if got := state(t, ctl, id).InstanceState; got != api.Started {
		t.Errorf("after a refused request: %s", got)
	}
	if got := save(`{"id":"` + string(id) + `","tag":"x","target_vm_id":"tpl-1"}`); !strings.Contains(got, `"OK"`) {
		t.Fatal(got)
	}
	n.reserve(api.TaskSaveImage)
	if err := ctl.client().Terminate(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the request ends in error", func() bool {
		_, got := do(t, "GET", ctl.URL+"/api/v1/image", "")
		return strings.Contains(got, `"status":"error"`) && strings.Contains(got, "the instance was terminated")
	})
}

// Jenkins waits for ever on a request that is pending.
func TestF25PushOfWhichNothingIsHeardEndsInError(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, nil)
	ctl := c.controllers[0]
	n := newNode(t, "n1", ctl)
	n.register()
	beat(t, n)
	id := mustStart(t, ctl, api.StartRequest{})
	n.start(n.reserve(api.TaskStart))
	_, answer := do(t, "POST", ctl.URL+"/api/v1/image", `{"id":"`+string(id)+`","tag":"x","target_vm_id":"tpl-1"}`)
	request := uuids.FindString(answer)
	n.reserve(api.TaskSaveImage)
	c.pass(31 * time.Minute)
	eventually(t, "the request ends in error", func() bool {
		_, got := do(t, "GET", ctl.URL+"/api/v1/image?id="+request, "")
		return strings.Contains(got, `"status":"error"`) && strings.Contains(got, "no report from the node")
	})
	if got := state(t, ctl, id); got.InstanceState != api.Started {
		t.Errorf("the instance whose VM runs is %s", got.InstanceState)
	}
}

func TestF28EmptyEtcdUnderAKnownCloudIsRefused(t *testing.T) {
	t.Parallel()
	etcd := dialEtcd(t, startEtcd(t, nil))
	cfg := DefaultConfig()
	cfg.ID, cfg.AllowEmptyRegistry, cfg.CloudID = "x", true, "the-old-cloud"
	srv, err := New(cfg, etcd, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "data is lost") {
		t.Errorf("run on an empty etcd: %v", err)
	}
}
