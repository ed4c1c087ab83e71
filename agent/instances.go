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

// instances ends and restarts instances that are on the node.
type instances struct {
	node     controllerapi.NodeID
	runtime  hypervisor.Runtime
	vms      *vms
	journal  *journal
	claims   *claims
	outcomes *outcomes
	address  *address
}

// terminate ends an instance: whatever stage its start is in, its VM goes.
// It is done when nothing of it is left.
func (i *instances) terminate(ctx context.Context, r Record) {
	id := r.Task.InstanceID
	i.claims.ended.add(id, r.Task.Attempt, time.Now())
	for n := 0; ; n++ {
		starts := i.journal.starts(id)
		if len(starts) == 0 {
			break
		}
		for _, s := range starts {
			i.claims.discard(s.Task.ID, errDiscarded)
		}
		// The plan removes them; it is asked again in case a discard could not be
		// written.
		if !discardPace.Wait(ctx, n) {
			return
		}
	}
	i.outcomes.finishTask(ctx, r, Reporting, done(nil, nil))
}

// vmOf finds the VM of an instance that is up.
func (i *instances) vmOf(id controllerapi.InstanceID) (Record, error) {
	for _, r := range i.journal.starts(id) {
		if (r.State == Running || r.State == Retained) && r.VMUUID != "" {
			return r, nil
		}
	}
	return Record{}, fmt.Errorf("instance %s has no VM on this node", id)
}

// restart stops a VM by force and starts it.
func (i *instances) restart(ctx context.Context, r Record) {
	vm, err := i.restartVM(ctx, r)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		i.outcomes.finishTask(ctx, r, Reporting, failed(err))
	default:
		info := vmInfo(vm, i.node, i.address.get())
		info.VNCPassword = r.Task.Restart.VNCPassword
		i.outcomes.finishTask(ctx, r, Reporting, done(&info, nil))
	}
}

func (i *instances) restartVM(ctx context.Context, r Record) (hypervisor.VM, error) {
	start, err := i.vmOf(r.Task.InstanceID)
	if err != nil {
		return hypervisor.VM{}, err
	}
	if err := i.vms.stop(ctx, start.VMUUID); err != nil {
		return hypervisor.VM{}, err
	}
	req := start.Task.Start.Request
	for try := 1; ; try++ {
		err := i.vms.start(ctx, start.VMUUID, hypervisor.StartOptions{VNCPassword: r.Task.Restart.VNCPassword})
		if err == nil {
			break
		}
		if ctx.Err() != nil || errors.Is(err, hypervisor.ErrNotFound) || try >= tooManyTries {
			return hypervisor.VM{}, err
		}
		if err := i.vms.stop(ctx, start.VMUUID); err != nil {
			return hypervisor.VM{}, err
		}
		if !retryPace.Wait(ctx, try) {
			return hypervisor.VM{}, context.Cause(ctx)
		}
	}
	if dev := r.Task.Restart.USBDevice; dev != "" {
		if err := i.runtime.AttachUSB(ctx, start.VMUUID, dev); err != nil {
			return hypervisor.VM{}, err
		}
	}
	req.StartupScript = "" // a restart runs no script
	return i.vms.waitUp(ctx, start.VMUUID, req)
}
