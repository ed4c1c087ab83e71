package agent

import (
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// ActionKind says what a step of a plan does.
type ActionKind string

const (
	Work     ActionKind = "work"      // take the record's task up, or up again
	Resend   ActionKind = "tell"      // deliver the record's outcome
	Discard  ActionKind = "discard"   // the claim is gone: mark the record Removing
	Clean    ActionKind = "clean"     // remove what a Removing record made
	RemoveVM ActionKind = "remove_vm" // remove a VM of which the cloud knows no instance
	HandBack ActionKind = "hand_back" // report to the cloud that nothing here works on its assignment
)

// Action is one step. Each is idempotent.
type Action struct {
	Kind       ActionKind
	Task       controllerapi.TaskID     // of a record
	VM         string                   // RemoveVM: UUID
	Assignment controllerapi.Assignment // HandBack
	Reason     string
}

// handBackAfter is how long an assignment may be without a record before it is
// handed back: longer than any reserve that could still deliver it.
const handBackAfter = 90 * time.Second

// Snapshot is all that a plan depends on.
type Snapshot struct {
	// Assignments are the cloud's, nil while unknown. AssignmentsAsked is when
	// the sync that brought them was sent: what was claimed later cannot be in it.
	Assignments      *controllerapi.Assignments
	AssignmentsAsked time.Time
	// Orphans holds since when an assignment was seen without a record.
	Orphans map[controllerapi.TaskID]time.Time
	Records []Record
	Busy    map[controllerapi.TaskID]bool // a worker is at it
	VMs     []hypervisor.VM
	Prefix  string
}

// Plan compares what the cloud wants with what the node has, and returns what
// to do. It is a pure function; carried out to the end, it plans nothing more.
//
// The rules, by what there is:
//
//	record             assignment                 action
//	Claimed            same attempt               work, unless a worker is at it
//	Claimed            terminate, other attempt   discard
//	Claimed            none, and asked later      discard: the claim was lost
//	Running, Retained  terminate, other attempt   discard
//	Running, Retained  none                       nothing: the VM may be in use, and an
//	                                              empty answer may be a store that was lost;
//	                                              the cloud decides by its Remove list
//	Removing           any                        clean
//	Reporting          any                        resend
//	none               same as before, too long   hand back
//	none               terminate                  nothing: the terminate task ends it
func Plan(s Snapshot, now time.Time) []Action {
	var plan []Action
	add := func(a Action) { plan = append(plan, a) }
	assigned := make(map[controllerapi.InstanceID]controllerapi.Assignment)
	if s.Assignments != nil {
		for _, a := range s.Assignments.Instances {
			assigned[a.InstanceID] = a
		}
	}
	recorded := make(map[controllerapi.TaskID]bool)
	for _, r := range s.Records {
		recorded[r.Task.ID] = true
		id := r.Task.ID
		if r.State != Removing && r.Task.Kind == controllerapi.TaskStart && s.Assignments != nil {
			a, ok := assigned[r.Task.InstanceID]
			if reason := lost(r, a, ok, s.AssignmentsAsked); reason != "" {
				add(Action{Kind: Discard, Task: id, Reason: reason})
				continue
			}
		}
		if s.Busy[id] {
			continue
		}
		switch {
		case r.State == Removing:
			add(Action{Kind: Clean, Task: id})
		case r.Outcome != nil:
			add(Action{Kind: Resend, Task: id})
		case r.State == Claimed:
			add(Action{Kind: Work, Task: id})
		}
	}
	if s.Assignments == nil {
		return plan
	}
	for _, a := range s.Assignments.Instances {
		if recorded[a.TaskID] || a.Terminate {
			continue
		}
		since, seen := s.Orphans[a.TaskID]
		if seen && now.Sub(since) >= handBackAfter {
			add(Action{Kind: HandBack, Assignment: a, Reason: "the agent was restarted before it began"})
		}
	}
	for _, uuid := range s.Assignments.Remove {
		if vm, ok := findVM(s.VMs, uuid); ok && removable(vm, s) {
			add(Action{Kind: RemoveVM, VM: uuid, Reason: "the cloud knows no instance of it"})
		}
	}
	return plan
}

// lost says why a start's claim no longer stands, or "".
func lost(r Record, a controllerapi.Assignment, assigned bool, asked time.Time) string {
	switch {
	case !assigned && r.State == Claimed && asked.After(r.Claimed):
		return "the cloud no longer assigns the instance to this node"
	case !assigned:
		return ""
	case a.Attempt < r.Task.Attempt:
		return "" // an answer from before the claim
	case a.Attempt > r.Task.Attempt:
		return "the instance was started anew"
	case a.Terminate:
		return "the instance is terminated"
	}
	return ""
}

// removable reports whether a VM that the cloud wants removed is one that the
// cloud could have made, and that no instance of ours lives in.
func removable(vm hypervisor.VM, s Snapshot) bool {
	if !managed(vm.Name, s.Prefix) {
		return false
	}
	for _, r := range s.Records {
		if r.Owns(vm.UUID, vm.Name) && (r.State == Claimed || r.State == Removing) {
			return false // its own record sees to it
		}
	}
	return true
}

// managed reports whether a VM has the cloud's prefix in its name.
func managed(name, prefix string) bool { return strings.HasPrefix(name, prefix+"-") }

func findVM(vms []hypervisor.VM, uuid string) (hypervisor.VM, bool) {
	for _, vm := range vms {
		if uuid != "" && vm.UUID == uuid {
			return vm, true
		}
	}
	return hypervisor.VM{}, false
}
