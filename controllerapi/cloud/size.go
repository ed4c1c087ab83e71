package cloud

import (
	"strconv"
	"strings"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/schedule"
)

// TemplateSize is what a VM of a template takes when the start request does not
// say otherwise. The registry does not know it; the first VM tells.
type TemplateSize struct {
	VCPU int `json:"vcpu"`
	RAM  int `json:"ram"` // MB

	rev int64
}

// unknownSize is assumed of a template of which no VM has run yet: it fits the
// smallest host.
var unknownSize = TemplateSize{VCPU: 2, RAM: 4096}

// need is what the instance takes of a node.
func (v *View) need(i *Instance) schedule.Size {
	size := unknownSize
	if known := v.Sizes[i.Template.ID]; known != nil {
		size = *known
	}
	if i.VCPU > 0 {
		size.VCPU = i.VCPU
	}
	if i.RAM > 0 {
		size.RAM = i.RAM
	}
	return schedule.Size{VMs: 1, VCPU: size.VCPU, RAM: size.RAM}
}

// LearnSize is the change that keeps what an instance's VM takes; nil for none.
func (v *View) LearnSize(id api.InstanceID, vm *api.VMInfo) *Change {
	i := v.Instances[id]
	if i == nil || vm == nil || i.VCPU > 0 || i.RAM > 0 || i.Template.ID == "" {
		return nil
	}
	seen := TemplateSize{VCPU: vm.CPUCores, RAM: Megabytes(vm.RAM)}
	if seen.VCPU <= 0 || seen.RAM <= 0 {
		return nil
	}
	if known := v.Sizes[i.Template.ID]; known != nil {
		if seen.rev = known.rev; seen == *known {
			return nil
		}
	}
	c := new(Change)
	c.Must(SizeRef(i.Template.ID), seen.rev)
	c.Put(SizeRef(i.Template.ID), seen)
	return c
}

// Megabytes reads a size such as 4G or 4096M, 0 for what it cannot read.
func Megabytes(s string) int {
	s = strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(strings.TrimSpace(s)), "B"), "I")
	for unit, factor := range map[string]float64{"T": 1 << 20, "G": 1 << 10, "M": 1, "K": 1.0 / 1024} {
		if num, ok := strings.CutSuffix(s, unit); ok {
			n, err := strconv.ParseFloat(num, 64)
			if err != nil || n < 0 || n > 1<<30 {
				return 0
			}
			return int(n * factor)
		}
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0
	}
	return int(n >> 20) // plain bytes
}
