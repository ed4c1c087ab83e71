package agent

import (
	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// armVMLimit is how many macOS VMs Apple's licence and hypervisor allow on one
// Mac with Apple silicon.
const armVMLimit = 2

// hostReserveMB is what the host keeps for itself in capacity mode resource.
const hostReserveMB = 2048

// Room is how much more a node may take on.
type Room struct{ VMs, VCPU, RAM int } // RAM in MB

// Demand is what one start asks for; 0 where the template decides.
type Demand struct{ VCPU, RAM int }

// Full reports whether no VM fits.
func (r Room) Full() bool { return r.VMs <= 0 || r.VCPU <= 0 || r.RAM <= 0 }

// room computes what is free. vms are all VMs of the node, ours or not: one that
// was started by hand takes a slot too (A12). pending are starts that hold a
// place and have no running VM yet.
func room(facts controllerapi.NodeFacts, s controllerapi.NodeSettings, vms []hypervisor.VM, pending []Demand, cfg *Config) Room {
	var r Room
	running, vcpu, ram := 0, 0, 0
	for _, d := range pending {
		running++
		vcpu += d.VCPU
		ram += d.RAM
	}
	for _, vm := range vms {
		if vm.Status == hypervisor.Running {
			running++
			vcpu += vm.CPU
			ram += vm.RAM
		}
	}
	limitVCPU, limitRAM := limits(facts, s, cfg.ForceOverrides)
	r.VCPU, r.RAM = limitVCPU-vcpu, limitRAM-ram
	if s.CapacityMode == CapacityResource {
		// The count does not bound in this mode; CPU and RAM do.
		r.VMs = max(r.VCPU, 0)
	} else {
		r.VMs = s.MaxVMCount - running
		// In mode number CPU and RAM do not bound.
		r.VCPU, r.RAM = max(r.VCPU, 1), max(r.RAM, 1)
	}
	if facts.HostArch == "arm64" && !cfg.IgnoreArmVMLimit && !s.IgnoreARMVMLimit {
		r.VMs = min(r.VMs, armVMLimit-running)
	}
	return Room{max(r.VMs, 0), max(r.VCPU, 0), max(r.RAM, 0)}
}

// limits are what VMs may take in capacity mode resource. An override leaves the
// host more than its usual share, and takes from it only when that is forced.
func limits(facts controllerapi.NodeFacts, s controllerapi.NodeSettings, force bool) (vcpu, ram int) {
	limit := func(has, override int) int {
		switch {
		case override <= 0:
			return has
		case force:
			return override
		}
		return min(override, has)
	}
	return limit(2*int(facts.CPUCount), s.VCPUOverride), limit(int(facts.RAM)*1024-hostReserveMB, s.RAMOverride)
}
