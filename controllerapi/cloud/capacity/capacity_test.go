package capacity

import (
	"testing"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

func TestVMs(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		arch    string
		set     api.NodeSettings
		limit   int
		limited bool
	}{
		{"Intel by number", "amd64", api.NodeSettings{CapacityMode: ByNumber, MaxVMCount: 5}, 5, true},
		{"Intel by resource", "amd64", api.NodeSettings{CapacityMode: ByResource, MaxVMCount: 5}, 0, false},
		{"Apple silicon, fewer than allowed", "arm64", api.NodeSettings{CapacityMode: ByNumber, MaxVMCount: 1}, 1, true},
		{"Apple silicon, more than allowed", "arm64", api.NodeSettings{CapacityMode: ByNumber, MaxVMCount: 5}, 2, true},
		{"Apple silicon by resource", "arm64", api.NodeSettings{CapacityMode: ByResource, MaxVMCount: 5}, 2, true},
		{"limit ignored", "arm64", api.NodeSettings{CapacityMode: ByNumber, MaxVMCount: 5, IgnoreARMVMLimit: true}, 5, true},
		{"limit ignored by resource", "arm64", api.NodeSettings{CapacityMode: ByResource, MaxVMCount: 5, IgnoreARMVMLimit: true}, 0, false},
		{"mode not set", "amd64", api.NodeSettings{MaxVMCount: 3}, 3, true},
	} {
		limit, limited := VMs(api.NodeFacts{HostArch: tc.arch}, tc.set)
		if limit != tc.limit || limited != tc.limited {
			t.Errorf("%s: %d, limited %v; want %d, %v", tc.name, limit, limited, tc.limit, tc.limited)
		}
	}
}

func TestResources(t *testing.T) {
	t.Parallel()
	host := api.NodeFacts{CPUCount: 8, RAM: 16}
	for _, tc := range []struct {
		name      string
		set       api.NodeSettings
		bounded   bool
		vcpu, ram int
	}{
		{"of the host", api.NodeSettings{}, false, 16, 16*1024 - HostReserve},
		{"less", api.NodeSettings{VCPUOverride: 4, RAMOverride: 8192}, true, 4, 8192},
		{"more", api.NodeSettings{VCPUOverride: 32, RAMOverride: 32768}, false, 32, 32768},
		{"more than there is", api.NodeSettings{VCPUOverride: 32, RAMOverride: 32768}, true, 16, 16*1024 - HostReserve},
	} {
		if vcpu, ram := Resources(host, tc.set, tc.bounded); vcpu != tc.vcpu || ram != tc.ram {
			t.Errorf("%s: %d CPUs and %d MB, want %d and %d", tc.name, vcpu, ram, tc.vcpu, tc.ram)
		}
	}
}
