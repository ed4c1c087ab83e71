package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/backoff"
)

// discardPace is that of looking whether the starts of an instance are gone.
var discardPace = backoff.Pace{Min: 50 * time.Millisecond, Max: time.Second}

// workTerminate ends an instance: whatever stage its start is in, its VM goes.
// It is done when nothing of it is left.
func (a *Agent) workTerminate(ctx context.Context, r Record) {
	id := r.Task.InstanceID
	a.mu.Lock()
	a.recentlyEnded[id] = endedInstance{max(r.Task.Attempt, a.recentlyEnded[id].attempt), time.Now()}
	a.mu.Unlock()
	for n := 0; ; n++ {
		starts := a.journal.starts(id)
		if len(starts) == 0 {
			break
		}
		for _, s := range starts {
			a.discard(s.Task.ID, errDiscarded)
		}
		// The plan removes them; it is asked again in case a discard could not be
		// written.
		if !discardPace.Wait(ctx, n) {
			return
		}
	}
	a.finishTask(ctx, r, Reporting, done(nil, nil))
}

// instanceVM finds the VM of an instance that is up.
func (a *Agent) instanceVM(id controllerapi.InstanceID) (Record, error) {
	for _, r := range a.journal.starts(id) {
		if (r.State == Running || r.State == Retained) && r.VMUUID != "" {
			return r, nil
		}
	}
	return Record{}, fmt.Errorf("instance %s has no VM on this node", id)
}

// workRestart stops a VM by force and starts it.
func (a *Agent) workRestart(ctx context.Context, r Record) {
	vm, err := a.restart(ctx, r)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		a.finishTask(ctx, r, Reporting, failed(err))
	default:
		info := vmInfo(vm, a.id, a.address.get())
		info.VNCPassword = r.Task.Restart.VNCPassword
		a.finishTask(ctx, r, Reporting, done(&info, nil))
	}
}

func (a *Agent) restart(ctx context.Context, r Record) (hypervisor.VM, error) {
	start, err := a.instanceVM(r.Task.InstanceID)
	if err != nil {
		return hypervisor.VM{}, err
	}
	if err := a.stopVM(ctx, start.VMUUID); err != nil {
		return hypervisor.VM{}, err
	}
	req := start.Task.Start.Request
	for try := 1; ; try++ {
		err := a.startVM(ctx, start.VMUUID, hypervisor.StartOptions{VNCPassword: r.Task.Restart.VNCPassword})
		if err == nil {
			break
		}
		if ctx.Err() != nil || errors.Is(err, hypervisor.ErrNotFound) || try >= tooManyTries {
			return hypervisor.VM{}, err
		}
		if err := a.stopVM(ctx, start.VMUUID); err != nil {
			return hypervisor.VM{}, err
		}
		if !retryPace.Wait(ctx, try) {
			return hypervisor.VM{}, context.Cause(ctx)
		}
	}
	if dev := r.Task.Restart.USBDevice; dev != "" {
		if err := a.deps.Runtime.AttachUSB(ctx, start.VMUUID, dev); err != nil {
			return hypervisor.VM{}, err
		}
	}
	req.StartupScript = "" // a restart runs no script
	return a.waitUp(ctx, start.VMUUID, req)
}

// stopVM stops a VM by force unless it does not run.
func (a *Agent) stopVM(ctx context.Context, uuid string) error {
	vm, err := a.deps.Runtime.Show(ctx, uuid)
	if err != nil {
		return err
	}
	if vm.Status == hypervisor.Stopped {
		return nil
	}
	return a.deps.Runtime.Stop(ctx, uuid, true)
}

// workDistribute brings a template's tag to the node.
func (a *Agent) workDistribute(ctx context.Context, r Record) {
	taskCtx, p := a.reportProgress(ctx, r)
	_, release, err := a.images.ensure(taskCtx, r.Task.Distribute.Template, func(f float64) { p.set(controllerapi.StagePulling, f) })
	p.end()
	switch {
	case err == nil:
		release()
		a.finishTask(ctx, r, Reporting, done(nil, nil))
	case ctx.Err() != nil:
	case errors.Is(context.Cause(taskCtx), errAbandoned):
		a.journal.drop(r.Task.ID)
	default:
		a.finishTask(ctx, r, Reporting, failed(err))
	}
}

// workRemoveTemplate removes all tags of a template from the node. The cloud
// asked for it by name, so it goes whoever pulled it; a VM that has the
// template's id but runs is no image and stays.
func (a *Agent) workRemoveTemplate(ctx context.Context, r Record) {
	err := a.images.removeTemplate(ctx, r.Task.Remove.TemplateID)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		a.finishTask(ctx, r, Reporting, failed(err))
	default:
		a.finishTask(ctx, r, Reporting, done(nil, nil))
	}
	a.wakeups.inventory.wake()
}
