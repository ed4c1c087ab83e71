package cloud

import (
	"slices"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud/capacity"
	"github.com/ankacluster/ankacluster/controllerapi/schedule"
)

const (
	// avoidFor is how long a node is not asked again for what it handed back. It
	// doubles with each time, up to maxAvoidFor: there may be no other node.
	avoidFor    = 5 * time.Second
	maxAvoidFor = time.Minute
)

// Capacity returns what a node can hold, and what of it is taken.
func (v *View) Capacity(n *Node) (total, used schedule.Size) {
	total.VMs, _ = capacity.VMs(n.Facts, n.Settings) // 0 without a limit
	total.VCPU, total.RAM = capacity.Resources(n.Facts, n.Settings, false)
	// What the node says runs, managed or not, and what was given to it since.
	var vms []ReportedVM
	if state := v.Reports[n.ID]; state != nil {
		vms = state.VMs
	}
	for _, vm := range vms {
		if vm.Running() {
			used = used.Add(schedule.Size{VMs: 1, VCPU: vm.VCPU, RAM: vm.RAM})
		}
	}
	for id, i := range v.onNode[n.ID] {
		counted := slices.ContainsFunc(vms, func(vm ReportedVM) bool { return vm.Running() && vm.Instance == id && vm.Attempt == i.Attempt })
		if !counted && i.takesSlot() {
			used = used.Add(v.need(i))
		}
	}
	return total, used
}

// takesSlot reports whether the instance has, or will have, a running VM.
func (i *Instance) takesSlot() bool {
	switch i.Public.InstanceState {
	case api.Stopped, api.Error, api.Terminated:
		return i.Restart != nil
	}
	return true
}

// imageSet is what placement looks up: the same map for all who ask, which they do not
// change.
func imageSet(list []api.NodeImage) map[schedule.Image]bool {
	set := make(map[schedule.Image]bool, len(list))
	for _, img := range list {
		set[schedule.Image{Template: string(img.UUID), Tag: img.Tag}] = true
	}
	return set
}

// Waited is how long a pending instance has been in the queue, since it was created or
// handed back last, as far as this process knows.
func (v *View) Waited(i *Instance, now time.Time) time.Duration {
	rev := i.Created
	if n := len(i.Avoid); n > 0 {
		rev = orRev(i.Avoid[n-1].Rev, i.Rev)
	}
	return v.Age(rev, now)
}

// ScheduleNode returns the node as placement sees it.
func (v *View) ScheduleNode(n *Node, now time.Time) *schedule.Node {
	total, used := v.Capacity(n)
	out := &schedule.Node{
		ID: string(n.ID), Accepting: v.Accepting(n, now), Arch: n.Facts.HostArch, Mode: n.Settings.CapacityMode,
		Total: total, Used: used,
	}
	for _, g := range v.GroupsOf(n.ID) {
		out.Groups = append(out.Groups, string(g))
	}
	if state := v.Reports[n.ID]; state != nil {
		out.Images = state.placed
	}
	for _, d := range n.Facts.USBDevices {
		if out.USB == nil {
			out.USB = make(map[string]int)
		}
		free := out.USB[d.Group]
		if !d.Busy {
			free++
		}
		out.USB[d.Group] = free
	}
	if out.USB != nil {
		for _, i := range v.onNode[n.ID] {
			if i.Public.USBDevice != "" && !i.Claim.Done {
				out.USB[i.Public.USBDevice]--
			}
		}
	}
	return out
}

// ScheduleTask returns a pending instance as placement sees it. The caller must
// not change it.
func (v *View) ScheduleTask(i *Instance) *schedule.Task {
	need := v.need(i)
	if t := i.task.Load(); t != nil && t.Need == need {
		return t
	}
	t := &schedule.Task{
		ID: string(i.Public.InstanceID), Priority: i.Priority, Created: v.Ages.Seen(i.Created), Order: i.Created,
		Image: schedule.Image{Template: string(i.Template.ID), Tag: i.Template.Tag},
		Arch:  i.Public.Arch, Node: string(i.PinNode), USB: i.Public.USBDevice, Need: need,
		Groups: v.groupChain(i.Public.GroupID),
	}
	if t.Arch != "arm64" && t.Arch != "amd64" {
		t.Arch = ""
	}
	var times map[api.NodeID]int
	for _, a := range i.Avoid { // oldest first
		if t.Avoid == nil {
			t.Avoid = make(map[string]time.Time)
			times = make(map[api.NodeID]int)
		}
		t.Avoid[string(a.Node)] = v.Ages.Seen(orRev(a.Rev, i.Rev)).Add(min(avoidFor<<times[a.Node], maxAvoidFor))
		times[a.Node]++
	}
	if i.Public.GroupID == "" { // else the groups' fallbacks may change
		i.task.Store(t)
	}
	return t
}

// groupChain returns a group and its fallbacks, each once.
func (v *View) groupChain(id api.GroupID) []string {
	var out []string
	for id != "" && !slices.Contains(out, string(id)) {
		out = append(out, string(id))
		g := v.Groups[id]
		if g == nil || g.FallbackGroupID == nil {
			break
		}
		id = *g.FallbackGroupID
	}
	return out
}
