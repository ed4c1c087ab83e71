package cloud_test

import (
	"errors"
	"testing"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/controllerapi/cloud/cloudtest"
)

// claim has a node's reservation claim an instance.
func claim(t *testing.T, w *cloudtest.World, node api.NodeID, reservation string, id api.InstanceID) (task api.TaskID, err error) {
	t.Helper()
	err = w.Do(t, func(v *cloud.View, now time.Time) (c *cloud.Change, certain bool, err error) {
		task, c, certain, err = v.Claim(cloud.Reservation{ID: reservation, Node: node, Session: "s"}, id, now)
		return c, certain, err
	})
	return task, err
}

// reportStart reports the start of the instance i in its present attempt.
func reportStart(t *testing.T, w *cloudtest.World, req *api.ReportRequest) error {
	t.Helper()
	i := w.View.Instances["i"]
	req.Session, req.TaskID, req.Attempt = "s", i.TaskID(), i.Attempt
	return w.Update(t, "i", func(i *cloud.Instance) error { return i.ReportStart(w.View, req, w.Now) })
}

func state(w *cloudtest.World, id api.InstanceID) api.InstanceState {
	return w.View.Instances[id].Public.InstanceState
}

func TestLifeOfAnInstance(t *testing.T) {
	t.Parallel()
	w := cloudtest.New()
	w.AddNode("n", 2)
	w.Start(t, "i", 1, cloud.MACSource{})
	if len(w.View.Pending()) != 1 || len(w.View.Visible()) != 1 {
		t.Fatalf("%d wait and %d are listed, want one", len(w.View.Pending()), len(w.View.Visible()))
	}
	task, err := claim(t, w, "n", "r", "i")
	if err != nil || task != "s.i.1" {
		t.Fatalf("claimed as %q: %v", task, err)
	}
	if full, i := w.View.Task("n", task); full == nil || full.Start == nil || full.Attempt != 1 || i == nil {
		t.Errorf("the task is %+v", full)
	}
	w.Pass(time.Second)
	if err := reportStart(t, w, &api.ReportRequest{NodeID: "n", Seq: 1, Phase: api.PhaseProgress, Stage: api.StagePulling, Progress: 0.5}); err != nil || state(w, "i") != api.Pulling {
		t.Fatalf("%s: %v", state(w, "i"), err)
	}
	vm := &api.VMInfo{UUID: "vm", Status: "running", CPUCores: 3, RAM: "6G"}
	done := &api.ReportRequest{NodeID: "n", Seq: 2, Phase: api.PhaseDone, VM: vm}
	if err := reportStart(t, w, done); err != nil || state(w, "i") != api.Started {
		t.Fatalf("%s: %v", state(w, "i"), err)
	}
	if err := reportStart(t, w, done); !errors.Is(err, cloud.ErrNoChange) {
		t.Errorf("a repeated report: %v, want ErrNoChange", err)
	}
	if err := w.Commit(w.View.LearnSize("i", vm)); err != nil {
		t.Fatal(err)
	}
	if size := w.View.Sizes["template"]; size == nil || size.VCPU != 3 || size.RAM != 6144 {
		t.Errorf("learned that a VM takes %+v", size)
	}
	if total, used := w.View.Capacity(w.View.Nodes["n"]); total.VMs != 2 || used.VMs != 1 || used.VCPU != 3 {
		t.Errorf("capacity %+v, used %+v", total, used)
	}

	terminate := func() error {
		return w.Update(t, "i", func(i *cloud.Instance) error { return i.Terminate(w.View, w.Now) })
	}
	if err := terminate(); err != nil || state(w, "i") != api.Terminating {
		t.Fatalf("%s: %v", state(w, "i"), err)
	}
	if err := terminate(); !errors.Is(err, cloud.ErrNoChange) {
		t.Errorf("asked to end again: %v, want ErrNoChange", err)
	}
	if err := reportStart(t, w, &api.ReportRequest{NodeID: "n", Seq: 3, Phase: api.PhaseDone}); !errors.Is(err, cloud.ErrNotYours) {
		t.Errorf("a report of the start after its end: %v, want ErrNotYours", err)
	}
	if id, _, _, err := w.View.HandOut(cloud.Reservation{ID: "r2", Node: "n", Session: "s", Kinds: []api.TaskKind{api.TaskTerminate}}, w.Now); id != api.TerminateTaskID("i") || err != nil {
		t.Errorf("handed out %q: %v", id, err)
	}
	confirm := &api.ReportRequest{NodeID: "n", Phase: api.PhaseDone}
	if err := w.Update(t, "i", func(i *cloud.Instance) error { return i.ReportTerminate(confirm, w.Now) }); err != nil || state(w, "i") != api.Terminated {
		t.Fatalf("%s: %v", state(w, "i"), err)
	}
	if len(w.View.OnNode("n")) != 0 {
		t.Error("an instance that has ended takes a place")
	}
	if err := w.Update(t, "i", func(i *cloud.Instance) error { i.MarkDeleted(w.Now); return nil }); err != nil || len(w.View.Visible()) != 0 {
		t.Fatalf("listed: %v, %v", w.View.Visible(), err)
	}
	forget := func(v *cloud.View, now time.Time) (*cloud.Change, bool, error) { return v.Forget("i", now) }
	if err := w.Do(t, forget); !errors.Is(err, cloud.ErrNoChange) {
		t.Errorf("forgotten at once: %v", err)
	}
	w.Pass(time.Hour)
	w.MoveFence()
	if err := w.Do(t, forget); err != nil || len(w.View.Instances) != 0 || w.Beside[cloud.RequestRef("i")] {
		t.Errorf("%d instances and the request %v are left: %v", len(w.View.Instances), w.Beside, err)
	}
}

func TestOneReservationBringsOneTask(t *testing.T) {
	t.Parallel()
	w := cloudtest.New()
	w.AddNode("n", 2)
	w.AddNode("m", 2)
	ids := w.Start(t, "i", 2, cloud.MACSource{})
	first, err := claim(t, w, "n", "r", ids[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name        string
		node        api.NodeID
		reservation string
		id          api.InstanceID
		task        api.TaskID
		err         error
	}{
		{"the same again", "n", "r", ids[0], first, cloud.ErrNoChange},
		{"a second task for it", "n", "r", ids[1], "", cloud.ErrSpent},
		{"the task for another node", "m", "r3", ids[0], "", cloud.ErrTaken},
		{"an instance that is not there", "n", "r4", "none", "", cloud.ErrTaken},
		{"a node that is not there", "o", "r5", ids[1], "", cloud.ErrUnknownNode},
	} {
		task, err := claim(t, w, tc.node, tc.reservation, tc.id)
		if task != tc.task || !errors.Is(err, tc.err) {
			t.Errorf("%s: %q, %v; want %q, %v", tc.name, task, err, tc.task, tc.err)
		}
	}
	r := cloud.Reservation{ID: "r6", Node: "n", Session: "before"}
	if _, _, _, err := w.View.Claim(r, ids[1], w.Now); !errors.Is(err, cloud.ErrSessionEnded) {
		t.Errorf("of an earlier session: %v, want ErrSessionEnded", err)
	}
}

func TestStartThatIsHandedBackGoesElsewhere(t *testing.T) {
	t.Parallel()
	w := cloudtest.New()
	w.AddNode("n", 1)
	w.Start(t, "i", 1, cloud.MACSource{})
	for attempt := 1; ; attempt++ {
		if attempt > cloud.MaxAttempts {
			t.Fatalf("attempt %d", attempt)
		}
		if _, err := claim(t, w, "n", "r"+time.Duration(attempt).String(), "i"); err != nil {
			t.Fatalf("attempt %d: %v", attempt, err)
		}
		if err := reportStart(t, w, &api.ReportRequest{NodeID: "m", Seq: 1, Phase: api.PhaseReturned}); !errors.Is(err, cloud.ErrNotYours) {
			t.Fatalf("another node's word: %v", err)
		}
		w.Pass(time.Second)
		if err := reportStart(t, w, &api.ReportRequest{NodeID: "n", Seq: 1, Phase: api.PhaseReturned, Message: "no"}); err != nil {
			t.Fatal(err)
		}
		if state(w, "i") == api.Error {
			if attempt != cloud.MaxAttempts {
				t.Errorf("failed after %d attempts, want %d", attempt, cloud.MaxAttempts)
			}
			return
		}
		i := w.View.Instances["i"]
		if i.Attempt != attempt+1 || !i.Pending() {
			t.Fatalf("attempt %d, pending %v", i.Attempt, i.Pending())
		}
		if w.View.ScheduleNode(w.View.Nodes["n"], w.Now).Fits(w.View.ScheduleTask(i), w.Now) {
			t.Fatalf("after attempt %d the node that gave it back is asked again at once", attempt)
		}
		w.Pass(2 * time.Minute)
	}
}

func TestVMsThatGoAreNoticed(t *testing.T) {
	t.Parallel()
	vms := func(list ...cloud.ReportedVM) *cloud.NodeReport {
		return &cloud.NodeReport{Session: "s", Seq: 5, VMs: list, VMsHash: "v", TasksHash: "t"}
	}
	vm := func(status string) cloud.ReportedVM {
		return cloud.ReportedVM{Instance: "i", Attempt: 1, Managed: true, UUID: "vm", Status: status}
	}
	for _, tc := range []struct {
		name   string
		report *cloud.NodeReport
		after  time.Duration
		want   api.InstanceState // "" for no change
	}{
		{"runs", vms(vm("running")), time.Hour, ""},
		{"not in the list, a moment after it was started", vms(), time.Second, ""},
		{"not in the list", vms(), time.Minute, api.Error},
		{"of another attempt", vms(cloud.ReportedVM{Instance: "i", Attempt: 2, UUID: "vm", Status: "running"}), time.Minute, api.Error},
		{"stopped", vms(vm("stopped")), time.Minute, api.Stopped},
		{"suspended", vms(vm("suspended")), time.Minute, api.Stopped},
		{"failed", vms(vm("failed")), time.Second, api.Error},
	} {
		w := cloudtest.New()
		w.AddNode("n", 1)
		w.Start(t, "i", 1, cloud.MACSource{})
		if _, err := claim(t, w, "n", "r", "i"); err != nil {
			t.Fatal(err)
		}
		if err := reportStart(t, w, &api.ReportRequest{NodeID: "n", Seq: 1, Phase: api.PhaseDone}); err != nil {
			t.Fatal(err)
		}
		w.Pass(tc.after)
		w.Put(cloud.NodeReportRef("n"), tc.report)
		req := &api.SyncRequest{NodeID: "n", Session: "s", Seq: 5}
		err := w.Update(t, "i", func(i *cloud.Instance) error { return i.Observe(w.View, req, nil, w.Now) })
		if tc.want == "" {
			if !errors.Is(err, cloud.ErrNoChange) {
				t.Errorf("%s: %v, %s; want no change", tc.name, err, state(w, "i"))
			}
		} else if err != nil || state(w, "i") != tc.want {
			t.Errorf("%s: %s, %v; want %s", tc.name, state(w, "i"), err, tc.want)
		}
	}
}
