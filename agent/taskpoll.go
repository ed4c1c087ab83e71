package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud/capacity"
	"github.com/ankacluster/ankacluster/internal/backoff"
)

const (
	// pollWait is how long a controller may hold a reserve: under the idle limit
	// of every proxy that anybody runs (A16).
	pollWait = 25 * time.Second
	// pollTimeout leaves the controller time to answer.
	pollTimeout = pollWait + 10*time.Second
	// imageTasks is how many distributions, removals and saved images run at
	// once: they load disk and network.
	imageTasks = 2
)

// pollStarts asks for starts while there is room for one.
func (a *Agent) pollStarts(ctx context.Context) error {
	return a.poll(ctx, a.wakeups.capacity, func() (controllerapi.ReserveRequest, bool) {
		free, ok := a.room()
		return controllerapi.ReserveRequest{
			Kinds:   []controllerapi.TaskKind{controllerapi.TaskStart},
			FreeVMs: free.VMs, FreeVCPU: free.VCPU, FreeRAM: free.RAM, Images: a.images.reports(a.inventory.list().vms),
		}, ok && !free.Full()
	})
}

// pollControl asks for everything else, always: a full node must hear that it
// shall end something.
func (a *Agent) pollControl(ctx context.Context) error {
	return a.poll(ctx, nil, func() (controllerapi.ReserveRequest, bool) {
		kinds := []controllerapi.TaskKind{controllerapi.TaskTerminate, controllerapi.TaskRestart}
		heavy := 0
		for _, r := range a.journal.all() {
			switch r.Task.Kind {
			case controllerapi.TaskSaveImage, controllerapi.TaskDistribute, controllerapi.TaskRemove:
				heavy++
			}
		}
		if heavy < imageTasks {
			kinds = append(kinds, controllerapi.TaskSaveImage, controllerapi.TaskDistribute, controllerapi.TaskRemove)
		}
		kinds = append(kinds, controllerapi.TaskUpgrade) // also to refuse it, with the reason
		return controllerapi.ReserveRequest{Kinds: kinds}, true
	})
}

func (a *Agent) poll(ctx context.Context, changed <-chan struct{}, want func() (controllerapi.ReserveRequest, bool)) error {
	// The id under which the poll asks for its next task: a repeat, at whichever
	// controller, gets the same task. After a restart of the agent the cloud
	// sees from its list of tasks what was not written down, and places it anew.
	reservation := uuid.NewString()
	for failures := 0; ; {
		req, ok := want()
		if !a.registered() || !ok {
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
		req.NodeID, req.Session, req.ReservationID, req.WaitMS = a.id, a.session, reservation, pollWait.Milliseconds()
		claimed, err := a.pollOnce(ctx, req)
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
			a.errors.fail(ctx, "reserve a task", err)
		}
		if !retryPace.Wait(ctx, failures) {
			return ctx.Err()
		}
		failures++
	}
}

// pollOnce asks once, and reports whether a task came and was written down.
func (a *Agent) pollOnce(ctx context.Context, req controllerapi.ReserveRequest) (claimed bool, err error) {
	callCtx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	began := time.Now()
	resp, err := a.deps.Cloud.Reserve(balancer.WithWait(callCtx, pollWait), req)
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
	if err := a.accept(*resp.Task); err != nil {
		return false, err // same reservation, same task, later
	}
	a.wakeups.plan.wake()
	a.wakeups.heartbeat.wake()
	return true, nil
}

// accept writes a claimed task down; the plan takes it up.
func (a *Agent) accept(t controllerapi.Task) error {
	if _, ok := a.journal.get(t.ID); ok {
		return nil
	}
	a.log.Info("task claimed", zap.String("kind", string(t.Kind)), zap.String("task", string(t.ID)),
		zap.String("instance_id", string(t.InstanceID)), zap.Int("attempt", t.Attempt))
	r := Record{Task: t, State: Claimed, Claimed: time.Now(), Lives: 1}
	if err := checkTask(t); err != nil {
		out := failed(err)
		out.Seq = seqPerLife
		r.State, r.Outcome = Reporting, &out
	}
	a.mu.Lock()
	recent, ended := a.recentlyEnded[t.InstanceID]
	a.mu.Unlock()
	if t.Kind == controllerapi.TaskStart && ended && t.Attempt <= recent.attempt {
		// A late delivery of what was ended here already (F2, F3).
		out := returned(errors.New("the instance was ended on this node before"))
		out.Seq = seqPerLife
		r.State, r.Outcome = Reporting, &out
	}
	return a.journal.put(r)
}

// room returns what is free, and false while the node may take nothing.
func (a *Agent) room() (Room, bool) {
	pending := a.pending()
	list := a.inventory.list()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.joined || !list.known || !a.inventory.hypervisor().LicenseValid || a.fitness.unfit() != "" || a.settings.DrainMode || a.draining {
		return Room{}, false
	}
	return room(a.deps.Host.Facts(), a.settings, list.vms, pending, &a.cfg), true
}

// pending returns what the starts need that have no running VM in the view.
func (a *Agent) pending() []Demand {
	seen := a.inventory.list()
	var list []Demand
	for _, r := range a.journal.all() {
		if r.Task.Kind != controllerapi.TaskStart || r.State == Reporting || r.State == Retained {
			continue
		}
		running := false
		for _, vm := range seen.vms {
			running = running || vm.Status == hypervisor.Running && r.Owns(vm.UUID, vm.Name)
		}
		if running || r.State == Running && seen.at.After(r.Changed) {
			continue
		}
		d := Demand{}
		if r.Task.Start != nil {
			d.VCPU, d.RAM = r.Task.Start.Request.VCPU, r.Task.Start.Request.VRAM
		}
		list = append(list, d)
	}
	return list
}

func (a *Agent) registered() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.joined
}

// checkTask reports a task that nothing can be done with.
func checkTask(t controllerapi.Task) error {
	missing := func(ok bool) error {
		if ok {
			return nil
		}
		return fmt.Errorf("the %s task has no details", t.Kind)
	}
	switch t.Kind {
	case controllerapi.TaskStart:
		return missing(t.Start != nil && t.InstanceID != "" && t.Start.Template.ID != "")
	case controllerapi.TaskTerminate:
		return missing(t.InstanceID != "")
	case controllerapi.TaskRestart:
		return missing(t.Restart != nil && t.InstanceID != "")
	case controllerapi.TaskSaveImage:
		return missing(t.SaveImage != nil && t.InstanceID != "" && t.SaveImage.Request.Tag != "")
	case controllerapi.TaskDistribute:
		return missing(t.Distribute != nil && t.Distribute.Template.ID != "")
	case controllerapi.TaskRemove:
		return missing(t.Remove != nil && t.Remove.TemplateID != "")
	case controllerapi.TaskUpgrade:
		return missing(t.Upgrade != nil && t.Upgrade.Version != "" && t.Upgrade.SHA256 != "")
	}
	return nil
}

// slotRefused counts a refusal for want of a slot if there should have been one.
func (a *Agent) slotRefused(ctx context.Context) {
	vms, err := a.deps.Runtime.List(ctx)
	if err != nil {
		return
	}
	limit := 1 // what a hypervisor without Apple's limit runs is not known
	if a.deps.Host.Facts().HostArch == "arm64" {
		limit = capacity.ARMVMLimit
	}
	taken := len(a.pending()) - 1 // other starts under way may have a slot and no VM in the list
	for _, vm := range vms {
		if vm.Status == hypervisor.Running {
			taken++
		}
	}
	a.fitness.slotRefused(taken < limit)
}
