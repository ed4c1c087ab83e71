package server

import (
	"context"
	"strings"
	"sync"
	"testing"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"go.etcd.io/etcd/client/v3"
)

func TestF10LastMegabyteOfOutputIsKept(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 2, nil)
	n := newNode(t, "n1", c.controllers...)
	n.register()
	id := mustStart(t, c.controllers[0], api.StartRequest{ScriptMonitoring: true, StartupScript: "eA=="})
	task := n.reserve(api.TaskStart)
	long := strings.Repeat("0123456789abcde\n", 2<<20/16)
	info := vmInfo("n1", string(id))
	n.report(api.ReportRequest{TaskID: task.ID, Seq: 1, Phase: api.PhaseFailed, VM: &info, Message: "script failed",
		Script: &api.ScriptResult{ReturnCode: 3, Stdout: long + "end", Stderr: "short"}})
	got := state(t, c.controllers[1], id)
	if got.StartupScript == nil || len(got.StartupScript.Stdout) != 1<<20 || !strings.HasSuffix(got.StartupScript.Stdout, "\nend") || got.StartupScript.Stderr != "short" {
		t.Fatalf("script result: %d bytes of stdout", len(got.StartupScript.Stdout))
	}
	list, err := c.controllers[0].client().Instances(t.Context())
	if err != nil || len(list[0].VM.StartupScript.Stdout) > 16<<10 {
		t.Errorf("list carries %d bytes of output (%v)", len(list[0].VM.StartupScript.Stdout), err)
	}
}

// Every byte of these outputs takes six on the wire.
func TestF10OutputOfControlCharactersArrives(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, nil)
	n := newNode(t, "n1", c.controllers...)
	n.register()
	id := mustStart(t, c.controllers[0], api.StartRequest{ScriptMonitoring: true, StartupScript: "eA=="})
	task := n.reserve(api.TaskStart)
	bell := strings.Repeat("\a", 1<<20)
	n.report(api.ReportRequest{TaskID: task.ID, Seq: 1, Phase: api.PhaseFailed, Message: "script failed", Script: &api.ScriptResult{Stdout: bell, Stderr: bell}})
	if got := state(t, c.controllers[0], id); got.StartupScript == nil || got.StartupScript.Stdout != bell || got.StartupScript.Stderr != bell {
		t.Errorf("script result %t, state %s", got.StartupScript != nil, got.InstanceState)
	}
}

func outputs(t *testing.T, c *testCloud) (keys []string) {
	t.Helper()
	resp, err := c.etcd.Get(t.Context(), "/ankacluster/u/output/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range resp.Kvs {
		keys = append(keys, string(kv.Key))
	}
	return keys
}

// A report that comes after the terminate leaves nothing that would stay for ever.
func TestF10OutputOfAnEndedStartIsNotKept(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 2, nil)
	n := newNode(t, "n1", c.controllers...)
	n.register()
	id := mustStart(t, c.controllers[0], api.StartRequest{ScriptMonitoring: true, StartupScript: "eA=="})
	task := n.reserve(api.TaskStart)
	if err := c.controllers[0].client().Terminate(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for _, ctl := range c.controllers { // one that has not seen it yet keeps them until it forgets the start
		if got := state(t, ctl, id); got.InstanceState != api.Terminating {
			t.Fatalf("after the terminate: %s", got.InstanceState)
		}
	}
	script := &api.ScriptResult{Stdout: strings.Repeat("x", 100<<10)}
	if !n.report(api.ReportRequest{TaskID: task.ID, Seq: 1, Phase: api.PhaseDone, Script: script}) {
		t.Error("a start that was terminated must be abandoned")
	}
	if keys := outputs(t, c); len(keys) != 0 {
		t.Errorf("kept: %v", keys)
	}
}

// beforeWrite is the key of a function that a request's first write to etcd waits for.
type beforeWrite struct{}

// lateWrites is etcd as it is for a controller that stops for long before it writes.
type lateWrites struct{ clientv3.KV }

func (l lateWrites) Put(ctx context.Context, key, value string, opts ...clientv3.OpOption) (*clientv3.PutResponse, error) {
	l.wait(ctx)
	return l.KV.Put(ctx, key, value, opts...)
}

func (l lateWrites) Txn(ctx context.Context) clientv3.Txn {
	l.wait(ctx)
	return l.KV.Txn(ctx)
}

func (lateWrites) wait(ctx context.Context) {
	if meanwhile, ok := ctx.Value(beforeWrite{}).(func()); ok {
		meanwhile()
	}
}

// Nor does one whose start is forgotten while its output is about to be kept.
func TestF10OutputOfAForgottenStartIsNotKept(t *testing.T) {
	t.Parallel()
	c := &testCloud{etcd: dialEtcd(t, startEtcd(t, nil)), registry: startRegistry(t)}
	direct := c.etcd.KV
	c.etcd.KV = lateWrites{direct}
	ctl := startController(t, c.etcd, c.registry.URL, nil)
	n := newNode(t, "n1", ctl)
	n.register()
	id := mustStart(t, ctl, api.StartRequest{ScriptMonitoring: true, StartupScript: "eA=="})
	task := n.reserve(api.TaskStart)
	ctx := context.WithValue(t.Context(), beforeWrite{}, sync.OnceFunc(func() {
		if resp, err := direct.Delete(t.Context(), "/ankacluster/s/instance/"+string(id)); err != nil || resp.Deleted != 1 {
			t.Errorf("forget the start: %v %v", resp, err)
		}
	}))
	abandon, err := ctl.store.Report(ctx, &api.ReportRequest{NodeID: n.id, Session: n.session, TaskID: task.ID, Attempt: task.Attempt, Seq: 1,
		Phase: api.PhaseDone, Script: &api.ScriptResult{Stdout: strings.Repeat("x", 100<<10)}})
	if err != nil || !abandon {
		t.Errorf("report of a forgotten start: abandon %t, %v", abandon, err)
	}
	if keys := outputs(t, c); len(keys) != 0 {
		t.Errorf("kept: %v", keys)
	}
}

// The node that a start was taken from reports late, with its own output.
func TestF10OutputOfASupersededAttemptDoesNotReplaceThatOfTheNext(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 2, nil)
	a, b := newNode(t, "n1", c.controllers...), newNode(t, "n2", c.controllers...)
	a.register()
	id := mustStart(t, c.controllers[0], api.StartRequest{ScriptMonitoring: true, StartupScript: "eA=="})
	first := a.reserve(api.TaskStart)
	a.report(api.ReportRequest{TaskID: first.ID, Seq: 1, Phase: api.PhaseReturned})
	b.register()
	second := b.reserve(api.TaskStart)
	done := func(n *fakeNode, task *api.Task, letter string) (abandon bool) {
		info := vmInfo(n.id, string(id))
		return n.report(api.ReportRequest{TaskID: task.ID, Attempt: task.Attempt, Seq: 2, Phase: api.PhaseDone, VM: &info,
			Script: &api.ScriptResult{Stdout: strings.Repeat(letter, 100<<10)}})
	}
	if done(b, second, "b") || !done(a, first, "a") {
		t.Error("the second attempt counts, and not the first")
	}
	if got := state(t, c.controllers[1], id); got.StartupScript == nil || got.StartupScript.Stdout != strings.Repeat("b", 100<<10) {
		t.Errorf("the instance shows the output %.5s", got.StartupScript.Stdout)
	}
}
