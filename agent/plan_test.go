package agent

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
)

var planNow = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func startRecord(state State, attempt int) Record {
	return Record{
		Task:  controllerapi.Task{ID: "s.i1.1", Kind: controllerapi.TaskStart, InstanceID: "i1", Attempt: attempt},
		State: state, Claimed: planNow.Add(-time.Minute), VMName: "mgmtManaged-a", VMUUID: "vm-1",
	}
}

// Every state against every kind of assignment, as the table in Plan's comment.
func TestPlanTable(t *testing.T) {
	same := &controllerapi.Assignment{InstanceID: "i1", Attempt: 1, TaskID: "s.i1.1"}
	ends := &controllerapi.Assignment{InstanceID: "i1", Attempt: 1, TaskID: "s.i1.1", Terminate: true}
	other := &controllerapi.Assignment{InstanceID: "i1", Attempt: 2, TaskID: "s.i1.1"}
	older := &controllerapi.Assignment{InstanceID: "i1", Attempt: 0, TaskID: "s.i1.1"}
	for _, tt := range []struct {
		state State
		want  map[*controllerapi.Assignment]ActionKind // nil key: no assignment
	}{
		{Claimed, map[*controllerapi.Assignment]ActionKind{same: Work, ends: Discard, other: Discard, older: Work, nil: Discard}},
		{Running, map[*controllerapi.Assignment]ActionKind{same: "", ends: Discard, other: Discard, older: "", nil: ""}},
		{Retained, map[*controllerapi.Assignment]ActionKind{same: "", ends: Discard, other: Discard, older: "", nil: ""}},
		{Removing, map[*controllerapi.Assignment]ActionKind{same: Clean, ends: Clean, other: Clean, older: Clean, nil: Clean}},
	} {
		for as, want := range tt.want {
			w := Snapshot{Assignments: &controllerapi.Assignments{}, AssignmentsAsked: planNow, Records: []Record{startRecord(tt.state, 1)}, Prefix: "mgmtManaged"}
			if as != nil {
				w.Assignments.Instances = append(w.Assignments.Instances, *as)
			}
			got := ActionKind("")
			if plan := Plan(w, planNow); len(plan) > 0 {
				got = plan[0].Kind
			}
			if got != want {
				t.Errorf("%s with %+v: got %q, want %q", tt.state, as, got, want)
			}
		}
	}
}

// An answer that was asked for before the claim says nothing about it.
func TestPlanIgnoresOlderAnswers(t *testing.T) {
	r := startRecord(Claimed, 1)
	for asked, want := range map[time.Time]ActionKind{
		r.Claimed.Add(-1): Work, r.Claimed: Work, r.Claimed.Add(1): Discard,
	} {
		plan := Plan(Snapshot{Assignments: &controllerapi.Assignments{}, AssignmentsAsked: asked, Records: []Record{r}}, planNow)
		if len(plan) != 1 || plan[0].Kind != want {
			t.Errorf("asked %s from the claim: got %+v, want %s", asked.Sub(r.Claimed), plan, want)
		}
	}
	if plan := Plan(Snapshot{Records: []Record{r}}, planNow); len(plan) != 1 || plan[0].Kind != Work {
		t.Errorf("without any answer: got %+v, want work", plan)
	}
}

func TestPlanHandsBackWhatNobodyWorksOn(t *testing.T) {
	as := &controllerapi.Assignments{Instances: []controllerapi.Assignment{{InstanceID: "i1", Attempt: 1, TaskID: "s.i1.1"}}}
	for age, want := range map[time.Duration]int{handBackAfter - 1: 0, handBackAfter: 1} {
		w := Snapshot{Assignments: as, Orphans: map[controllerapi.TaskID]time.Time{"s.i1.1": planNow.Add(-age)}}
		if plan := Plan(w, planNow); len(plan) != want {
			t.Errorf("after %s: got %+v", age, plan)
		}
	}
}

// Whatever the world: no VM without the prefix is planned to be removed, what
// somebody is at is left to them, and no record has two actions.
func TestPlanNeverTouchesWhatIsNotOurs(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	names := []string{"mgmtManaged-a", "mgmtManagedX", "by-hand", "mgmtManaged"}
	for range 5000 {
		w := Snapshot{Prefix: "mgmtManaged", Busy: map[controllerapi.TaskID]bool{}, AssignmentsAsked: planNow, Assignments: &controllerapi.Assignments{Remove: []string{"vm-1", "vm-2"}}}
		vm := hypervisor.VM{UUID: "vm-1", Name: names[rnd.IntN(len(names))]}
		w.VMs = append(w.VMs, vm)
		if rnd.IntN(2) == 0 {
			r := startRecord([]State{Claimed, Running, Retained, Reporting, Removing}[rnd.IntN(5)], 1)
			w.Records = append(w.Records, r)
			w.Busy[r.Task.ID] = rnd.IntN(2) == 0
		}
		if rnd.IntN(2) == 0 {
			w.Assignments.Instances = append(w.Assignments.Instances, controllerapi.Assignment{InstanceID: "i1", Attempt: rnd.IntN(3), TaskID: "s.i1.1", Terminate: rnd.IntN(2) == 0})
		}
		seen := make(map[controllerapi.TaskID]bool)
		for _, a := range Plan(w, planNow) {
			if a.Kind == RemoveVM && !managed(vm.Name, w.Prefix) {
				t.Fatalf("plans to remove %q: %+v", vm.Name, w)
			}
			if a.Kind != Discard && w.Busy[a.Task] {
				t.Fatalf("plans %s beside a worker: %+v", a.Kind, w)
			}
			if a.Task != "" && seen[a.Task] {
				t.Fatalf("two actions for %s: %+v", a.Task, w)
			}
			seen[a.Task] = true
		}
	}
}

// A damaged journal file is set aside; the others count.
func TestJournalSurvivesDamage(t *testing.T) {
	dir := state.Dir(t.TempDir())
	if err := dir.Make(); err != nil {
		t.Fatal(err)
	}
	j, _, err := openJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	good, bad := startRecord(Running, 1), startRecord(Running, 1)
	bad.Task.ID = "s.i2.1"
	for _, r := range []Record{good, bad} {
		if err := j.put(r); err != nil {
			t.Fatal(err)
		}
	}
	damage(t, filepath.Join(dir.JournalDir(), journalFile(bad.Task.ID)))
	j, damaged, err := openJournal(dir)
	if err != nil || len(damaged) != 1 {
		t.Fatalf("damaged %v, %v", damaged, err)
	}
	if all := j.all(); len(all) != 1 || all[0].Task.ID != good.Task.ID || all[0].VMUUID != "vm-1" {
		t.Errorf("records: %+v", all)
	}
}

// What is Removing stays so, whoever writes.
func TestJournalRemovingIsFinal(t *testing.T) {
	dir := state.Dir(t.TempDir())
	j, _, err := openJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.put(startRecord(Removing, 1)); err != nil {
		t.Fatal(err)
	}
	if err := j.put(startRecord(Running, 1)); err != errDiscarded {
		t.Errorf("got %v, want errDiscarded", err)
	}
}
