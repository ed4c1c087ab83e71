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

const (
	// upTimeout is how long a started VM may take until it has an address.
	upTimeout = 5 * time.Minute
	// upLook is how often it is looked at.
	upLook = time.Second
)

// vms is what tasks do to one VM. It is safe for concurrent use.
type vms struct {
	runtime      hypervisor.Runtime
	prefix       string        // of the cloud's VMs
	startTimeout time.Duration // of one start command
	inventory    *inventory
	fitness      *fitness
	metrics      *metrics
}

// start starts a VM.
func (v *vms) start(ctx context.Context, uuid string, o hypervisor.StartOptions) error {
	began := time.Now()
	o.Timeout = v.startTimeout
	err := v.runtime.Start(ctx, uuid, o)
	v.metrics.started(time.Since(began), err)
	if err == nil {
		v.fitness.slotGranted()
	}
	return err
}

// stop stops a VM by force unless it does not run.
func (v *vms) stop(ctx context.Context, uuid string) error {
	vm, err := v.runtime.Show(ctx, uuid)
	if err != nil {
		return err
	}
	if vm.Status == hypervisor.Stopped {
		return nil
	}
	return v.runtime.Stop(ctx, uuid, true)
}

// waitUp waits until the VM runs and, unless it has no network or its script
// wants to run before, has an address and its port forwards.
func (v *vms) waitUp(ctx context.Context, uuid string, req controllerapi.StartRequest) (hypervisor.VM, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, upTimeout, fmt.Errorf("the VM had no address after %s", upTimeout))
	defer cancel()
	needNetwork := req.NetworkMode != "disconnected" && !(req.StartupScript != "" && req.ScriptMonitoring && req.StartupScriptCondition == 1)
	for {
		vm, err := v.runtime.Show(ctx, uuid)
		switch {
		case err != nil && ctx.Err() != nil:
			return vm, context.Cause(ctx)
		case errors.Is(err, hypervisor.ErrNotFound):
			return vm, err
		case err == nil && vm.Status == hypervisor.Running && (!needNetwork || vm.IP != ""):
			return vm, nil
		case err == nil && (vm.Status == hypervisor.Stopped || vm.Status == hypervisor.Failed):
			err = fmt.Errorf("the VM is %s right after its start", vm.Status)
			if vm.Failure != nil {
				err = fmt.Errorf("%w: %w", err, vm.Failure)
			}
			return vm, err
		}
		if !backoff.Sleep(ctx, upLook) {
			return vm, context.Cause(ctx)
		}
	}
}

// removeOwned removes the record's VM, or whatever there is of it. It returns
// nil only when the hypervisor lists nothing of it any more.
func (v *vms) removeOwned(ctx context.Context, r Record) error {
	if r.VMName == "" && r.VMUUID == "" {
		return nil
	}
	err := v.remove(ctx, func(vm hypervisor.VM) bool {
		// The prefix is checked again: a journal that lies must not cost
		// somebody a VM.
		return r.Owns(vm.UUID, vm.Name) && managed(vm.Name, v.prefix)
	})
	if err == nil {
		v.inventory.forget(r.VMUUID)
	}
	return err
}

// remove removes the VMs that match. It returns nil only when the hypervisor lists
// none any more.
func (v *vms) remove(ctx context.Context, match func(hypervisor.VM) bool) error {
	var last error
	for range 3 {
		listed, err := v.runtime.List(ctx)
		if err != nil {
			return err
		}
		found := false
		for _, vm := range listed {
			if !match(vm) {
				continue
			}
			found = true
			if vm.Status != hypervisor.Stopped {
				// A stop that fails is no reason to stop here: the VM may be gone, and
				// delete says so.
				last = v.runtime.Stop(ctx, vm.UUID, true)
			}
			if err := v.runtime.Delete(ctx, vm.UUID); err != nil {
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
