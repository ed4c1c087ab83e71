package agent

import (
	"context"
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
)

// reconciler brings what is on the node and what the cloud wants together.
type reconciler struct {
	journal   *journal
	assigned  *assignments
	inventory *inventory
	workers   *workers
	claims    *claims
	outcomes  *outcomes
	vms       *vms
	work      func(context.Context, controllerapi.TaskID) // takes a claimed task up
	errors    *errorLog
	log       *zap.Logger
	wakeups   wakeups
}

// run brings what is on the node and what the cloud wants together, again
// and again.
func (r *reconciler) run(ctx context.Context) error {
	tick := time.NewTicker(planEvery)
	defer tick.Stop()
	for {
		now := time.Now()
		r.claims.ended.forget(now)
		for _, action := range Plan(r.snapshot(now), now) {
			r.apply(ctx, action)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case <-r.wakeups.plan:
			if !backoff.Sleep(ctx, planMin) {
				return ctx.Err()
			}
		}
	}
}

// snapshot is what the plan is made of, as of now. The records come first: what ends
// while the rest is read is planned once more, and its work finds nothing to do.
func (r *reconciler) snapshot(now time.Time) Snapshot {
	s := Snapshot{Records: r.journal.all(), Prefix: r.vms.prefix}
	s.Busy, s.VMs = r.workers.tasks(), r.inventory.list().vms
	r.assigned.compare(&s, now)
	return s
}

func (r *reconciler) apply(ctx context.Context, action Action) {
	if action.Reason != "" {
		r.log.Info("plan", zap.String("action", string(action.Kind)), zap.String("task", string(action.Task)),
			zap.String("vm", action.VM), zap.String("reason", action.Reason))
	}
	switch action.Kind {
	case Work:
		r.workers.begin(ctx, action.Task, r.work)
	case Resend:
		r.workers.begin(ctx, action.Task, r.outcomes.resendOutcome)
	case Clean:
		r.workers.begin(ctx, action.Task, r.clean)
	case Discard:
		r.claims.discard(action.Task, errDiscarded)
	case RemoveVM:
		r.workers.begin(ctx, controllerapi.TaskID("vm."+action.VM), func(ctx context.Context, _ controllerapi.TaskID) {
			if err := r.vms.remove(ctx, func(vm hypervisor.VM) bool {
				return vm.UUID == action.VM && managed(vm.Name, r.vms.prefix)
			}); err != nil {
				r.errors.fail(ctx, "remove unknown VM", err)
			}
			r.inventory.forget(action.VM)
		})
	case HandBack:
		r.workers.begin(ctx, action.Assignment.TaskID, func(ctx context.Context, id controllerapi.TaskID) {
			as := action.Assignment
			r.outcomes.sendOutcome(ctx, Record{Task: controllerapi.Task{ID: id, Kind: controllerapi.TaskStart, InstanceID: as.InstanceID, Attempt: as.Attempt},
				Outcome: &controllerapi.ReportRequest{Phase: controllerapi.PhaseReturned, Message: action.Reason,
					// Nothing is known of earlier reports: be above them all.
					Seq: time.Now().Unix() * seqPerLife}})
			r.assigned.handedBack(id, time.Now())
		})
	}
}

// clean removes what a record made, then the record.
func (r *reconciler) clean(ctx context.Context, id controllerapi.TaskID) {
	record, ok := r.journal.get(id)
	if !ok {
		return
	}
	for n := 0; ; n++ {
		err := r.vms.removeOwned(ctx, record)
		if err == nil {
			r.journal.drop(id)
			r.log.Info("removed", zap.String("instance_id", string(record.Task.InstanceID)), zap.String("vm", record.VMName))
			return
		}
		r.errors.fail(ctx, "remove VM", err)
		if !retryPace.Wait(ctx, n) {
			return
		}
	}
}
