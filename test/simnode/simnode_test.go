package simnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ankacluster/ankacluster/controllerapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func startTask(i, attempt int) controllerapi.Task {
	id := controllerapi.InstanceID(fmt.Sprintf("i%d", i))
	return controllerapi.Task{ID: controllerapi.TaskID(fmt.Sprintf("s.%s.%d", id, attempt)), Kind: controllerapi.TaskStart, InstanceID: id, Attempt: attempt,
		Start: &controllerapi.StartTask{}}
}

// life runs a node until the returned function is called.
func life(t *testing.T, n *Node) (end func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- n.Run(ctx) }()
	ended := false
	var err error
	end = func() error {
		cancel()
		if !ended {
			err, ended = <-result, true
		}
		return err
	}
	t.Cleanup(func() { _ = end() })
	return end
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within two minutes: %s", what)
		}
	}
}

func TestNodeStartsAndTerminates(t *testing.T) {
	t.Parallel()
	cloud, api := newFakeCloud(t)
	ledger := NewLedger()
	n := New(Config{ID: "n", Capacity: 2, StartTime: 5 * time.Millisecond}, api, ledger, Hooks{})
	end := life(t, n)
	cloud.put(startTask(1, 1), startTask(2, 1), startTask(3, 1))
	eventually(t, "two VMs", func() bool { return len(n.Holds()) == 2 })
	eventually(t, "done reports", func() bool {
		return cloud.reported(controllerapi.PhaseDone, "s.i1.1") && cloud.reported(controllerapi.PhaseDone, "s.i2.1")
	})
	cloud.terminate("n", "i1")
	eventually(t, "the third, once there is room", func() bool { return slices.Equal(n.Holds(), []controllerapi.InstanceID{"i2", "i3"}) })
	eventually(t, "the termination's report", func() bool {
		return cloud.reported(controllerapi.PhaseDone, controllerapi.TerminateTaskID("i1"))
	})
	eventually(t, "the ledger's knowledge", func() bool { _, ok := ledger.StartedAt("i3"); return ok })
	if err := end(); err != nil {
		t.Errorf("Run() = %v", err)
	}
	if v := ledger.Violations(); len(v) != 0 || ledger.Begun() != 3 {
		t.Errorf("violations %v, %d VMs begun, want none and 3", v, ledger.Begun())
	}
}

func TestLedgerNoticesWhatAControllerMustNotDo(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		want ViolationKind
		bad  func(*fakeCloud)
	}{
		{Doubled, func(c *fakeCloud) { c.put(startTask(1, 1), startTask(1, 1)) }},
		{StartedTwice, func(c *fakeCloud) { c.put(startTask(1, 1), startTask(1, 2)) }},
		{OverCapacity, func(c *fakeCloud) { c.generous = true; c.put(startTask(1, 1), startTask(2, 1), startTask(3, 1)) }},
	} {
		t.Run(string(tc.want), func(t *testing.T) {
			t.Parallel()
			cloud, api := newFakeCloud(t)
			ledger := NewLedger()
			tc.bad(cloud)
			for _, id := range []controllerapi.NodeID{"a", "b"} {
				life(t, New(Config{ID: id, Capacity: 1}, api, ledger, Hooks{}))
			}
			eventually(t, "a violation "+string(tc.want), func() bool {
				return slices.ContainsFunc(ledger.Violations(), func(v Violation) bool { return v.Kind == tc.want })
			})
		})
	}
}

func TestRestartedNodeKeepsVMsAndReturnsWhatItHadNotBegun(t *testing.T) {
	t.Parallel()
	cloud, api := newFakeCloud(t)
	ledger := NewLedger()
	n := New(Config{ID: "n"}, api, ledger, Hooks{})
	end := life(t, n)
	cloud.put(startTask(1, 1))
	eventually(t, "the first VM", func() bool { return cloud.reported(controllerapi.PhaseDone, "s.i1.1") })
	n.cfg.StartTime = time.Hour // read at the next start only
	cloud.put(startTask(2, 1))
	eventually(t, "the second start's progress", func() bool { return cloud.reported(controllerapi.PhaseProgress, "s.i2.1") })
	if err := end(); err != nil {
		t.Fatal(err)
	}
	life(t, n)
	eventually(t, "the second task's return", func() bool { return cloud.reported(controllerapi.PhaseReturned, "s.i2.1") })
	if got := n.Holds(); !slices.Equal(got, []controllerapi.InstanceID{"i1"}) {
		t.Errorf("VMs after the restart: %v, want i1", got)
	}
}

func TestAbandonedStartLeavesNothing(t *testing.T) {
	t.Parallel()
	cloud, api := newFakeCloud(t)
	cloud.abandon = true
	ledger := NewLedger()
	n := New(Config{ID: "n"}, api, ledger, Hooks{})
	life(t, n)
	cloud.put(startTask(1, 1))
	eventually(t, "the report", func() bool { return cloud.reported(controllerapi.PhaseDone, "s.i1.1") })
	eventually(t, "the VM's end", func() bool { return len(ledger.Running()) == 0 })
	if _, ok := ledger.StartedAt("i1"); ok {
		t.Error("an abandoned start counts as Started")
	}
}

func TestUnknownAssignmentIsReturnedAndUnknownVMRemoved(t *testing.T) {
	t.Parallel()
	cloud, api := newFakeCloud(t)
	n := New(Config{ID: "n"}, api, NewLedger(), Hooks{})
	cloud.placed["n"] = []controllerapi.Assignment{{InstanceID: "x", Attempt: 1, TaskID: "s.x.1"}}
	n.mu.Lock()
	v := n.createLocked(startTask(9, 1))
	n.mu.Unlock()
	cloud.removed["n"] = []string{v.info.UUID}
	life(t, n)
	eventually(t, "the first sight", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return !n.orphans["s.x.1"].IsZero() })
	if cloud.reported(controllerapi.PhaseReturned, "s.x.1") {
		t.Error("returned at first sight: its answer may be on its way")
	}
	n.mu.Lock()
	n.orphans["s.x.1"] = time.Now().Add(-orphanPatience)
	n.mu.Unlock()
	eventually(t, "the return", func() bool { return cloud.reported(controllerapi.PhaseReturned, "s.x.1") })
	late := startTask(0, 1)
	late.ID = "s.x.1"
	n.take(t.Context(), nil, late)
	n.mu.Lock()
	if n.held["s.x.1"] != nil {
		t.Error("a task that was returned is taken when its answer comes late")
	}
	n.mu.Unlock()
	eventually(t, "the removal", func() bool { return len(n.Holds()) == 0 })
}

func TestSyncSendsOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	cloud, api := newFakeCloud(t)
	life(t, New(Config{ID: "n"}, api, NewLedger(), Hooks{}))
	syncs := func() []controllerapi.SyncRequest {
		cloud.mu.Lock()
		defer cloud.mu.Unlock()
		return slices.Clone(cloud.syncs)
	}
	eventually(t, "three syncs", func() bool { return len(syncs()) >= 3 })
	if s := syncs(); s[0].Facts == nil || s[0].VMs == nil || s[0].Tasks == nil || s[1].Facts != nil || s[1].VMs != nil {
		t.Errorf("first sync %+v, second %+v: want everything, then nothing", s[0], s[1])
	}
	before := len(syncs())
	cloud.mu.Lock()
	cloud.resync = true
	cloud.mu.Unlock()
	eventually(t, "a full sync after Resync", func() bool {
		return slices.ContainsFunc(syncs()[before:], func(s controllerapi.SyncRequest) bool { return s.Facts != nil && s.VMs != nil })
	})
}

func TestForgottenNodeRegistersAgainAndReplacedOneEnds(t *testing.T) {
	t.Parallel()
	cloud, api := newFakeCloud(t)
	n := New(Config{ID: "n"}, api, NewLedger(), Hooks{})
	result := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { result <- n.Run(ctx) }()
	session := func() string { cloud.mu.Lock(); defer cloud.mu.Unlock(); return cloud.nodes["n"] }
	eventually(t, "the registration", func() bool { return session() != "" })
	cloud.mu.Lock()
	delete(cloud.nodes, "n")
	cloud.mu.Unlock()
	eventually(t, "a new registration", func() bool { return session() != "" })
	cloud.mu.Lock()
	cloud.nodes["n"] = "another"
	cloud.mu.Unlock()
	if err := <-result; !errors.Is(err, controllerapi.ErrSessionEnded) {
		t.Errorf("Run() of a replaced session = %v", err)
	}
}

func TestHistogramQuantiles(t *testing.T) {
	t.Parallel()
	var h Histogram
	if h.Quantile(0.5) != 0 {
		t.Error("an empty histogram has a median")
	}
	for i := 1; i <= 1000; i++ {
		h.Add(time.Duration(i) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond, 1: time.Second} {
		if got := h.Quantile(q); got < want*98/100 || got > want*103/100 {
			t.Errorf("Quantile(%g) = %s, want %s within 2%%", q, got, want)
		}
	}
}
