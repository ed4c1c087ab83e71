package agent

import (
	"slices"
	"testing"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// A node that leaves removes the VMs of its own instances: another agent of the
// host may have VMs with the cloud's prefix, and a request may name a VM without it.
func TestLeavingRemovesOnlyItsOwnVMs(t *testing.T) {
	rt := &fakeRuntime{vms: []hypervisor.VM{
		{UUID: "u1", Name: "mgmtManaged-sonoma-1", Status: hypervisor.Running},
		{UUID: "u2", Name: "named-by-the-request", Status: hypervisor.Stopped},
		{UUID: "u3", Name: "mgmtManaged-sonoma-3", Status: hypervisor.Running},
		{UUID: "u4", Name: "pushed", Status: hypervisor.Stopped},
		{UUID: "u5", Name: "somebodys", Status: hypervisor.Running},
	}}
	dir := state.Dir(t.TempDir())
	j, _, err := openJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []Record{
		{Task: controllerapi.Task{ID: "t1", Kind: controllerapi.TaskStart}, State: Running, VMName: "mgmtManaged-sonoma-1", VMUUID: "u1"},
		{Task: controllerapi.Task{ID: "t2", Kind: controllerapi.TaskStart}, State: Claimed, VMName: "named-by-the-request"},
		{Task: controllerapi.Task{ID: "t4", Kind: controllerapi.TaskSaveImage}, State: Claimed, VMName: "pushed"},
	} {
		if err := j.put(r); err != nil {
			t.Fatal(err)
		}
	}
	got, err := RemoveOwn(t.Context(), rt, dir, "mgmtManaged")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"mgmtManaged-sonoma-1", "named-by-the-request"}; !slices.Equal(got.Removed, want) {
		t.Errorf("removed %v, want %v", got.Removed, want)
	}
	if want := []string{"mgmtManaged-sonoma-3"}; !slices.Equal(got.Kept, want) {
		t.Errorf("kept %v, want %v", got.Kept, want)
	}
	if vms, _ := rt.List(t.Context()); len(vms) != 3 {
		t.Errorf("left are %v", vms)
	}
}
