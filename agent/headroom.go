package agent

import (
	"context"
	"sync/atomic"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/agent/state"
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
func room(facts controllerapi.NodeFacts, s controllerapi.NodeSettings, vms []hypervisor.VM, pending []Demand, cfg *state.Config) Room {
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
	if s.CapacityMode == state.CapacityResource {
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

// headroom knows how much more the node may take on. It is safe for concurrent use.
type headroom struct {
	cfg       *state.Config
	host      Host
	runtime   hypervisor.Runtime
	inventory *inventory
	fitness   *fitness
	members   *membership
	journal   *journal
	draining  atomic.Bool // no more starts, an upgrade is due
}

// room returns what is free, and false while the node may take nothing.
func (h *headroom) room() (Room, bool) {
	list, member := h.inventory.list(), h.members.get()
	if !member.joined || !list.known || !h.inventory.hypervisor().LicenseValid || h.fitness.unfit() != "" || member.settings.DrainMode || h.draining.Load() {
		return Room{}, false
	}
	return room(h.host.Facts(), member.settings, list.vms, h.pending(list), h.cfg), true
}

// pending returns what the starts need that have no running VM among those seen. A
// record that changed after the look counts, so that no place is given twice.
func (h *headroom) pending(seen vmList) []Demand {
	var list []Demand
	for _, r := range h.journal.all() {
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

// slotRefused counts a refusal for want of a slot if there should have been one.
func (h *headroom) slotRefused(ctx context.Context) {
	vms, err := h.runtime.List(ctx)
	if err != nil {
		return
	}
	limit := 1 // what a hypervisor without Apple's limit runs is not known
	if h.host.Facts().HostArch == "arm64" {
		limit = capacity.ARMVMLimit
	}
	taken := len(h.pending(h.inventory.list())) - 1 // other starts under way may have a slot and no VM in the list
	for _, vm := range vms {
		if vm.Status == hypervisor.Running {
			taken++
		}
	}
	h.fitness.slotRefused(taken < limit)
}
