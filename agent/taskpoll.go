package agent

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/ankacluster/ankacluster/agent/images"
	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/backoff"
)

const (
	// pollWait is how long a controller may hold a reserve: under the idle limit
	// of every proxy that anybody runs (A16).
	pollWait = 25 * time.Second
	// pollTimeout leaves the controller time to answer.
	pollTimeout = pollWait + 10*time.Second
	// heavyTasks is how many distributions, removals and saved images run at
	// once: they load disk and network.
	heavyTasks = 2
)

// taskPoll asks the controllers for tasks.
type taskPoll struct {
	cloud     Cloud
	caller    caller
	claims    *claims
	journal   *journal
	members   *membership
	headroom  *headroom
	inventory *inventory
	images    *images.Cache
	errors    *errorLog
	wakeups   wakeups
}

// starts asks for starts while there is room for one.
func (t *taskPoll) starts(ctx context.Context) error {
	return t.poll(ctx, t.wakeups.capacity, func() (controllerapi.ReserveRequest, bool) {
		free, ok := t.headroom.room()
		return controllerapi.ReserveRequest{
			Kinds:   []controllerapi.TaskKind{controllerapi.TaskStart},
			FreeVMs: free.VMs, FreeVCPU: free.VCPU, FreeRAM: free.RAM, Images: t.images.Reports(t.inventory.list().vms),
		}, ok && !free.Full()
	})
}

// others asks for everything else, always: a full node must hear that it
// shall end something.
func (t *taskPoll) others(ctx context.Context) error {
	return t.poll(ctx, nil, func() (controllerapi.ReserveRequest, bool) {
		kinds := []controllerapi.TaskKind{controllerapi.TaskTerminate, controllerapi.TaskRestart}
		heavy := 0
		for _, r := range t.journal.all() {
			switch r.Task.Kind {
			case controllerapi.TaskSaveImage, controllerapi.TaskDistribute, controllerapi.TaskRemove:
				heavy++
			}
		}
		if heavy < heavyTasks {
			kinds = append(kinds, controllerapi.TaskSaveImage, controllerapi.TaskDistribute, controllerapi.TaskRemove)
		}
		kinds = append(kinds, controllerapi.TaskUpgrade) // also to refuse it, with the reason
		return controllerapi.ReserveRequest{Kinds: kinds}, true
	})
}

func (t *taskPoll) poll(ctx context.Context, changed <-chan struct{}, want func() (controllerapi.ReserveRequest, bool)) error {
	// The id under which the poll asks for its next task: a repeat, at whichever
	// controller, gets the same task. After a restart of the agent the cloud
	// sees from its list of tasks what was not written down, and places it anew.
	reservation := uuid.NewString()
	for failures := 0; ; {
		req, ok := want()
		if !t.members.get().joined || !ok {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-changed:
				if !backoff.Sleep(ctx, syncMin) {
					return ctx.Err()
				}
			case <-time.After(time.Second):
			}
			continue
		}
		req.NodeID, req.Session, req.ReservationID, req.WaitMS = t.caller.node, t.caller.session, reservation, pollWait.Milliseconds()
		claimed, err := t.once(ctx, req)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			failures = 0
			if claimed {
				reservation = uuid.NewString()
			}
			continue
		}
		// A session that is over or unknown is the session's own goroutine's to
		// act on; it sees the same.
		if failures%20 == 0 {
			t.errors.fail(ctx, "reserve a task", err)
		}
		if !retryPace.Wait(ctx, failures) {
			return ctx.Err()
		}
		failures++
	}
}

// once asks once, and reports whether a task came and was written down.
func (t *taskPoll) once(ctx context.Context, req controllerapi.ReserveRequest) (claimed bool, err error) {
	callCtx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	began := time.Now()
	resp, err := t.cloud.Reserve(balancer.WithWait(callCtx, pollWait), req)
	if err != nil {
		return false, err
	}
	if resp.Task == nil {
		// A server that does not hold the poll must not be asked without pause.
		if time.Since(began) < 500*time.Millisecond {
			backoff.Sleep(ctx, 500*time.Millisecond)
		}
		return false, nil
	}
	if err := t.claims.accept(*resp.Task); err != nil {
		return false, err // same reservation, same task, later
	}
	t.wakeups.plan.wake()
	t.wakeups.heartbeat.wake()
	return true, nil
}
