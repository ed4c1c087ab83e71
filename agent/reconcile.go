package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/backoff"
)

const (
	// planEvery is the pace without a reason; every change is a reason.
	planEvery = 10 * time.Second
	// planMin is the least time between two plans.
	planMin = 50 * time.Millisecond
	// handBackAgain is how long after a hand-back it is repeated.
	handBackAgain = time.Hour
	// recentlyEndedFor is how long an ended instance's start is refused.
	recentlyEndedFor = time.Hour
)

// Causes for which a worker is cancelled.
var (
	errDiscarded = errors.New("the claim no longer stands")
	errAbandoned = errors.New("the cloud told the node to abandon the task")
)

// reconcile brings what is on the node and what the cloud wants together, again
// and again.
func (a *Agent) reconcile(ctx context.Context) error {
	tick := time.NewTicker(planEvery)
	defer tick.Stop()
	for {
		for _, action := range Plan(a.snapshot(), time.Now()) {
			a.apply(ctx, action)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case <-a.wakeups.plan:
			if !backoff.Sleep(ctx, planMin) {
				return ctx.Err()
			}
		}
	}
}

// snapshot is what the plan is made of, as of now.
func (a *Agent) snapshot() Snapshot {
	records := a.journal.all()
	busy, vms := a.workers.tasks(), a.inventory.list().vms
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.trackOrphansLocked(records, now)
	for id, t := range a.recentlyEnded {
		if now.Sub(t.at) > recentlyEndedFor {
			delete(a.recentlyEnded, id)
		}
	}
	return Snapshot{
		Assignments: a.assigned, AssignmentsAsked: a.askedAt, Orphans: maps.Clone(a.orphans),
		Records: records, Busy: busy, VMs: vms, Prefix: a.cfg.VMPrefix,
	}
}

// trackOrphansLocked remembers since when an assignment has no record.
func (a *Agent) trackOrphansLocked(records []Record, now time.Time) {
	if a.assigned == nil {
		return
	}
	orphans := make(map[controllerapi.TaskID]time.Time)
	recorded := make(map[controllerapi.TaskID]bool)
	for _, r := range records {
		recorded[r.Task.ID] = true
	}
	for _, as := range a.assigned.Instances {
		if recorded[as.TaskID] {
			continue
		}
		since, ok := a.orphans[as.TaskID]
		if !ok {
			since = now
		}
		orphans[as.TaskID] = since
	}
	a.orphans = orphans
}

func (a *Agent) apply(ctx context.Context, action Action) {
	if action.Reason != "" {
		a.log.Info("plan", zap.String("action", string(action.Kind)), zap.String("task", string(action.Task)),
			zap.String("vm", action.VM), zap.String("reason", action.Reason))
	}
	switch action.Kind {
	case Work:
		a.workers.begin(ctx, action.Task, a.work)
	case Resend:
		a.workers.begin(ctx, action.Task, a.resendOutcome)
	case Clean:
		a.workers.begin(ctx, action.Task, a.clean)
	case Discard:
		a.discard(action.Task, errDiscarded)
	case RemoveVM:
		a.workers.begin(ctx, controllerapi.TaskID("vm."+action.VM), func(ctx context.Context, _ controllerapi.TaskID) {
			if err := a.removeVM(ctx, func(vm hypervisor.VM) bool {
				return vm.UUID == action.VM && managed(vm.Name, a.cfg.VMPrefix)
			}); err != nil {
				a.errors.fail(ctx, "remove unknown VM", err)
			}
			a.inventory.forget(action.VM)
		})
	case HandBack:
		a.workers.begin(ctx, action.Assignment.TaskID, func(ctx context.Context, id controllerapi.TaskID) {
			as := action.Assignment
			a.sendOutcome(ctx, Record{Task: controllerapi.Task{ID: id, Kind: controllerapi.TaskStart, InstanceID: as.InstanceID, Attempt: as.Attempt},
				Outcome: &controllerapi.ReportRequest{Phase: controllerapi.PhaseReturned, Message: action.Reason,
					// Nothing is known of earlier reports: be above them all.
					Seq: time.Now().Unix() * seqPerLife}})
			// The cloud may keep the assignment, of an instance in error for one:
			// it was told, and need not be told with every plan.
			a.mu.Lock()
			a.orphans[id] = time.Now().Add(handBackAgain)
			a.mu.Unlock()
		})
	}
}

// work takes a claimed task up.
func (a *Agent) work(ctx context.Context, id controllerapi.TaskID) {
	r, ok := a.journal.get(id)
	if !ok || r.State != Claimed {
		return
	}
	a.metrics.taskStarted(r.Task.Kind)
	switch r.Task.Kind {
	case controllerapi.TaskStart:
		a.workStart(ctx, r)
	case controllerapi.TaskTerminate:
		a.workTerminate(ctx, r)
	case controllerapi.TaskRestart:
		a.workRestart(ctx, r)
	case controllerapi.TaskSaveImage:
		a.workSaveImage(ctx, r)
	case controllerapi.TaskDistribute:
		a.workDistribute(ctx, r)
	case controllerapi.TaskRemove:
		a.workRemoveTemplate(ctx, r)
	case controllerapi.TaskUpgrade:
		a.workUpgrade(ctx, r)
	default:
		a.finishTask(ctx, r, Reporting, failed(fmt.Errorf("this agent does not know tasks of kind %q", r.Task.Kind)))
	}
}

// resendOutcome delivers an outcome that an earlier run of the agent could not.
func (a *Agent) resendOutcome(ctx context.Context, id controllerapi.TaskID) {
	if r, ok := a.journal.get(id); ok && r.Outcome != nil {
		a.sendOutcome(ctx, r)
	}
}

// discard marks a record for removal and stops its worker. The plan does the
// rest once the worker has gone.
func (a *Agent) discard(id controllerapi.TaskID, cause error) {
	r, ok := a.journal.get(id)
	if !ok {
		return
	}
	a.mu.Lock()
	if r.Task.InstanceID != "" {
		a.recentlyEnded[r.Task.InstanceID] = endedInstance{r.Task.Attempt, time.Now()}
	}
	a.mu.Unlock()
	w := a.workers.at(id)
	if r.State != Removing {
		r.State, r.Outcome = Removing, nil
		if err := a.journal.put(r); err != nil {
			a.errors.note("journal", err)
			a.log.Error("journal", zap.Error(err)) // the next plan tries again
			return
		}
		if w != nil {
			w.cancel(cause)
		}
	}
	a.wakeups.plan.wake()
}

// clean removes what a record made, then the record.
func (a *Agent) clean(ctx context.Context, id controllerapi.TaskID) {
	r, ok := a.journal.get(id)
	if !ok {
		return
	}
	for n := 0; ; n++ {
		err := a.removeOwned(ctx, r)
		if err == nil {
			a.journal.drop(id)
			a.log.Info("removed", zap.String("instance_id", string(r.Task.InstanceID)), zap.String("vm", r.VMName))
			return
		}
		a.errors.fail(ctx, "remove VM", err)
		if !retryPace.Wait(ctx, n) {
			return
		}
	}
}

// removeOwned removes the record's VM, or whatever there is of it. It returns
// nil only when the hypervisor lists nothing of it any more.
func (a *Agent) removeOwned(ctx context.Context, r Record) error {
	if r.VMName == "" && r.VMUUID == "" {
		return nil
	}
	err := a.removeVM(ctx, func(vm hypervisor.VM) bool {
		// The prefix is checked again: a journal that lies must not cost
		// somebody a VM.
		return r.Owns(vm.UUID, vm.Name) && managed(vm.Name, a.cfg.VMPrefix)
	})
	if err == nil {
		a.inventory.forget(r.VMUUID)
	}
	return err
}

func (a *Agent) removeVM(ctx context.Context, match func(hypervisor.VM) bool) error {
	var last error
	for range 3 {
		vms, err := a.deps.Runtime.List(ctx)
		if err != nil {
			return err
		}
		found := false
		for _, vm := range vms {
			if !match(vm) {
				continue
			}
			found = true
			if vm.Status != hypervisor.Stopped {
				// A stop that fails is no reason to stop here: the VM may be gone, and
				// delete says so.
				last = a.deps.Runtime.Stop(ctx, vm.UUID, true)
			}
			if err := a.deps.Runtime.Delete(ctx, vm.UUID); err != nil {
				last = err
			}
		}
		if !found {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if last == nil {
		last = errors.New("the VM is still listed after it was deleted")
	}
	return last
}
