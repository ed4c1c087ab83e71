package agent

import (
	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud/capacity"
)

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
	s.IgnoreARMVMLimit = s.IgnoreARMVMLimit || cfg.IgnoreArmVMLimit
	// An override leaves the host more than its usual share, and takes from it only
	// when that is forced.
	limitVCPU, limitRAM := capacity.Resources(facts, s, !cfg.ForceOverrides)
	r.VCPU, r.RAM = limitVCPU-vcpu, limitRAM-ram
	if s.CapacityMode == CapacityResource {
		// The count does not bound in this mode; CPU and RAM do.
		r.VMs = max(r.VCPU, 0)
		if limit, limited := capacity.VMs(facts, s); limited {
			r.VMs = min(r.VMs, limit-running)
		}
	} else {
		limit, _ := capacity.VMs(facts, s)
		r.VMs = limit - running
		// In mode number CPU and RAM do not bound.
		r.VCPU, r.RAM = max(r.VCPU, 1), max(r.RAM, 1)
	}
	return Room{max(r.VMs, 0), max(r.VCPU, 0), max(r.RAM, 0)}
}
