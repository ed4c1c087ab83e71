package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

// RemoveManaged removes every VM that carries the cloud's prefix, for a node
// that leaves. The agent must not run. It returns the names of those removed.
func RemoveManaged(ctx context.Context, rt hypervisor.Runtime, prefix string) ([]string, error) {
	vms, err := rt.List(ctx)
	if err != nil {
		return nil, err
	}
	var removed []string
	var errs []error
	for _, vm := range vms {
		if !managed(vm.Name, prefix) {
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
		removed = append(removed, vm.Name)
	}
	return removed, errors.Join(errs...)
}
