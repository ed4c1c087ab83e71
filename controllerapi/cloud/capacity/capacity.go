// Package capacity is what a host can hold: the rules by which the controllers
// place VMs and the agent takes them. It knows no cloud and no hypervisor, so that
// both use the same.
package capacity

import api "github.com/ankacluster/ankacluster/controllerapi"

// Capacity modes of a node.
const (
	// ByNumber bounds the number of VMs alone.
	ByNumber = "number"
	// ByResource bounds their CPUs and memory together.
	ByResource = "resource"
)

const (
	// ARMVMLimit is how many macOS VMs Apple's licence and hypervisor allow on one
	// Mac with Apple silicon.
	ARMVMLimit = 2
	// HostReserve is the memory that the host keeps for itself, in MB.
	HostReserve = 2048
	// cpusPerCore is how many virtual CPUs a host's core counts for.
	cpusPerCore = 2
)

// VMs returns how many VMs may run on a host at a time; limited is false if their
// number is not bounded.
func VMs(host api.NodeFacts, set api.NodeSettings) (limit int, limited bool) {
	arm := host.HostArch == "arm64" && !set.IgnoreARMVMLimit
	switch {
	case set.CapacityMode == ByResource && arm:
		return ARMVMLimit, true
	case set.CapacityMode == ByResource:
		return 0, false
	case arm:
		return min(set.MaxVMCount, ARMVMLimit), true
	}
	return set.MaxVMCount, true
}

// Resources returns the virtual CPUs and the memory in MB that VMs may take
// together in mode ByResource: what the host has, less its reserve, or the
// settings' overrides. bounded keeps an override from giving more than the host
// has.
func Resources(host api.NodeFacts, set api.NodeSettings, bounded bool) (vcpu, ram int) {
	limit := func(has, override int) int {
		switch {
		case override <= 0:
			return has
		case bounded:
			return min(override, has)
		}
		return override
	}
	return limit(int(host.CPUCount)*cpusPerCore, set.VCPUOverride), limit(int(host.RAM)*1024-HostReserve, set.RAMOverride)
}
