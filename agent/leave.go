package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// Leftovers is what became of the VMs of a node that leaves, by name.
type Leftovers struct {
	Removed []string
	// Kept carry the cloud's prefix, but are of no instance of this node: another
	// agent's, or a person's.
	Kept []string
}

// RemoveOwn removes the VMs of this node's instances, for a node that leaves. The
// agent must not run. What the journal does not know stays, whatever its name is:
// another agent may use the same hypervisor.
func RemoveOwn(ctx context.Context, rt hypervisor.Runtime, dir state.Dir, prefix string) (Leftovers, error) {
	var left Leftovers
	j, damaged, err := openJournal(dir)
	if err != nil {
		return left, err
	}
	vms, err := rt.List(ctx)
	if err != nil {
		return left, err
	}
	var errs []error
	if len(damaged) > 0 {
		errs = append(errs, fmt.Errorf("records that cannot be read, so that their VMs stay: %s", strings.Join(damaged, ", ")))
	}
	records := j.all()
	for _, vm := range vms {
		if !ofAnInstance(records, vm) {
			if managed(vm.Name, prefix) {
				left.Kept = append(left.Kept, vm.Name)
			}
			continue
		}
		if vm.Status != hypervisor.Stopped {
			// A VM that cannot be stopped is perhaps gone: delete says so.
			_ = rt.Stop(ctx, vm.UUID, true)
		}
		if err := rt.Delete(ctx, vm.UUID); err != nil {
			errs = append(errs, fmt.Errorf("remove VM %s: %w", vm.Name, err))
			continue
		}
		left.Removed = append(left.Removed, vm.Name)
	}
	return left, errors.Join(errs...)
}

// ofAnInstance reports whether a start of this node made the VM. Other tasks'
// records keep other words in the place of a name.
func ofAnInstance(records []Record, vm hypervisor.VM) bool {
	if vm.UUID == "" {
		return false // an image, no VM
	}
	for _, r := range records {
		if r.Task.Kind == controllerapi.TaskStart && r.Owns(vm.UUID, vm.Name) {
			return true
		}
	}
	return false
}
