package cloud

import (
	"encoding/hex"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// reportSkew is how long what a node says may be older than what it has reported
// otherwise: a VM that is missing from its list within that time of a change is
// not missing yet.
const reportSkew = 15 * time.Second

// Synced is the answer to a heartbeat.
type Synced struct {
	Resync      bool
	Settings    api.NodeSettings
	Assignments api.Assignments
}

// Quiet answers a heartbeat that brings no news and gets none; ok is false if there
// are any. lease is that of the node.
func (v *View) Quiet(req *api.SyncRequest, threshold int, now time.Time) (out Synced, lease int64, ok bool) {
	n, state, live := v.Nodes[req.NodeID], v.Reports[req.NodeID], v.Leases[req.NodeID]
	if n == nil || n.Session != req.Session || state == nil || state.Session != req.Session || state.Seq > req.Seq ||
		live == nil || live.Session != req.Session {
		return out, 0, false
	}
	if (api.PartHashes{Facts: n.FactsHash, VMs: state.VMsHash, Images: state.ImagesHash, Tasks: state.TasksHash}) != req.Hashes {
		return out, 0, false
	}
	for i := range state.VMs {
		vm := &state.VMs[i]
		if vm.Managed && (v.Instances[vm.Instance] == nil) != (vm.UnknownSince != 0) {
			return out, 0, false
		}
	}
	for _, i := range v.onNode[n.ID] {
		if !i.Ended() && i.clone().Observe(v, req, nil, now) == nil {
			return out, 0, false
		}
	}
	out.Settings = v.SettingsOf(n)
	out.Assignments = v.Assignments(n, req.Seq, threshold, now, false)
	ok = out.Settings.Generation == req.SettingsGeneration && out.Assignments.Generation == req.AssignmentGeneration
	return out, live.Lease, ok
}

// StoreReport stores the parts of a heartbeat that differ from what is stored. It
// sets resync if a part that differs was not sent.
func (v *View) StoreReport(req *api.SyncRequest, resync *bool, now time.Time) (*Change, bool, error) {
	n := v.Nodes[req.NodeID]
	if n == nil {
		return nil, true, ErrUnknownNode
	}
	if n.Session != req.Session {
		return nil, true, ErrSessionEnded
	}
	cur := v.Reports[req.NodeID]
	next := NodeReport{}
	if cur != nil {
		next = *cur
	}
	if cur != nil && cur.Session == req.Session && cur.Seq > req.Seq {
		return nil, true, ErrNoChange // a later sync overtook this one
	}
	sameSession := next.Session == req.Session
	next.Session = req.Session
	*resync = false
	if req.VMs != nil && next.VMsHash != req.Hashes.VMs {
		next.VMs, next.VMsHash = reportedVMs(*req.VMs), req.Hashes.VMs
	}
	if req.Images != nil {
		next.Images, next.ImagesHash = *req.Images, req.Hashes.Images
	}
	if req.Tasks != nil {
		next.Tasks, next.TasksHash = *req.Tasks, req.Hashes.Tasks
	}
	factsHash := n.FactsHash
	if req.Facts != nil {
		factsHash = req.Hashes.Facts
	}
	*resync = next.VMsHash != req.Hashes.VMs || next.ImagesHash != req.Hashes.Images ||
		next.TasksHash != req.Hashes.Tasks || factsHash != req.Hashes.Facts
	flagged := v.flagUnknown(&next, cur, sameSession, req.Seq)
	stateChanged := cur == nil || !sameSession || flagged || next.VMsHash != cur.VMsHash ||
		next.ImagesHash != cur.ImagesHash || next.TasksHash != cur.TasksHash
	factsChanged := factsHash != n.FactsHash
	if !stateChanged && !factsChanged {
		return nil, true, ErrNoChange
	}
	next.Seq, next.At = req.Seq, now
	c := new(Change)
	c.Must(NodeRef(n.ID), n.Rev) // a removed node must not come back half
	if stateChanged {
		rev := int64(0)
		if cur != nil {
			rev = cur.Rev
		}
		c.Must(NodeReportRef(n.ID), rev)
		c.Put(NodeReportRef(n.ID), next)
	}
	if factsChanged {
		node := *n
		node.Facts, node.FactsHash = *req.Facts, factsHash
		c.Put(NodeRef(n.ID), node)
	}
	return c, false, nil
}

func reportedVMs(vms []api.VMReport) []ReportedVM {
	out := make([]ReportedVM, 0, len(vms))
	for _, vm := range vms {
		out = append(out, ReportedVM{
			Instance: vm.InstanceID, Attempt: vm.Attempt, Managed: vm.Managed,
			UUID: vm.Info.UUID, Status: vm.Info.Status, VCPU: vm.VCPU, RAM: vm.RAM,
		})
	}
	return out
}

// flagUnknown marks managed VMs that belong to no instance with the sync that
// first showed it, so that reports are counted without a write for each. It
// reports whether a mark differs from those of cur.
func (v *View) flagUnknown(next, cur *NodeReport, sameSession bool, seq int64) (changed bool) {
	since := make(map[string]int64)
	if cur != nil && sameSession {
		for _, vm := range cur.VMs {
			since[vm.UUID] = vm.UnknownSince
		}
	}
	next.VMs = slices.Clone(next.VMs)
	for i := range next.VMs {
		vm := &next.VMs[i]
		vm.UnknownSince = 0
		if vm.Managed && v.Instances[vm.Instance] == nil {
			vm.UnknownSince = seq
			if was := since[vm.UUID]; was != 0 {
				vm.UnknownSince = was
			}
		}
		changed = changed || vm.UnknownSince != since[vm.UUID]
	}
	return changed
}

// Assignments is the desired state of a node. all lists claims that are under way
// too: when it is not known which tasks the node holds, it may hold them already,
// and would drop what is missing here.
func (v *View) Assignments(n *Node, seq int64, threshold int, now time.Time, all bool) api.Assignments {
	out := api.Assignments{Instances: []api.Assignment{}}
	for id, i := range v.onNode[n.ID] {
		if !all && v.underWay(n, i, now) {
			continue
		}
		out.Instances = append(out.Instances, api.Assignment{
			InstanceID: id, Attempt: i.Attempt, TaskID: i.TaskID(),
			Terminate: i.Public.InstanceState == api.Terminating,
		})
	}
	slices.SortFunc(out.Instances, func(a, b api.Assignment) int {
		return strings.Compare(string(a.InstanceID), string(b.InstanceID))
	})
	if state := v.Reports[n.ID]; state != nil && state.Session == n.Session {
		for _, vm := range state.VMs {
			if vm.Managed && vm.UUID != "" && v.unwanted(n, vm, seq, threshold, now) {
				out.Remove = append(out.Remove, vm.UUID)
			}
		}
		slices.Sort(out.Remove)
	}
	out.Generation = generation(out)
	return out
}

// underWay reports whether a claim may still be on its way to its node. It is not
// listed yet: an agent that finds a claim it knows nothing of hands it back, and
// would then be given it all the same.
func (v *View) underWay(n *Node, i *Instance, now time.Time) bool {
	if i.Ended() || i.Claim.Done || i.Claim.Seq > 0 || i.Claim.Session != n.Session || v.AgeOf(i, now) > reportSkew {
		return false
	}
	state := v.Reports[n.ID]
	return state == nil || !slices.Contains(state.Tasks, i.TaskID())
}

// unwanted reports whether a managed VM shall be removed: it is of an attempt
// that was superseded, it outlived its confirmed end, or it was shown often
// enough without an instance.
func (v *View) unwanted(n *Node, vm ReportedVM, seq int64, threshold int, now time.Time) bool {
	i := v.Instances[vm.Instance]
	switch {
	case i == nil:
		return vm.UnknownSince != 0 && seq-vm.UnknownSince+1 >= int64(threshold)
	case i.Attempt != vm.Attempt || i.Claim == nil || i.Claim.Node != n.ID:
		return true
	case i.Public.InstanceState == api.Terminated:
		return v.AgeOf(i, now) > reportSkew
	}
	return false
}

// noneAssigned is the generation of a node without instances.
var noneAssigned = hashed(api.Assignments{Instances: []api.Assignment{}})

func generation(a api.Assignments) string {
	if len(a.Instances) == 0 && len(a.Remove) == 0 {
		return noneAssigned
	}
	return hashed(a)
}

func hashed(a api.Assignments) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(api.HashPart(a)))
	return hex.EncodeToString(h.Sum(nil))
}

// VMsByInstance returns the VMs that a heartbeat reports in full, by instance.
func VMsByInstance(req *api.SyncRequest) map[api.InstanceID]*api.VMReport {
	out := make(map[api.InstanceID]*api.VMReport)
	if req.VMs != nil {
		for i := range *req.VMs {
			if vm := &(*req.VMs)[i]; vm.InstanceID != "" {
				out[vm.InstanceID] = vm
			}
		}
	}
	return out
}

// ObservedChanges returns the instances on a node that are not in line with its
// heartbeat.
func (v *View) ObservedChanges(req *api.SyncRequest, vms map[api.InstanceID]*api.VMReport, now time.Time) []api.InstanceID {
	var out []api.InstanceID
	for id, i := range v.onNode[req.NodeID] {
		if i.clone().Observe(v, req, vms[id], now) == nil {
			out = append(out, id)
		}
	}
	return out
}

// Observe takes what a node's sync says of the instance. vm is the full report
// of its VM if the sync carried one.
func (i *Instance) Observe(v *View, req *api.SyncRequest, vm *api.VMReport, now time.Time) error {
	state := v.Reports[req.NodeID]
	if state == nil || state.Session != req.Session || i.Ended() || i.Claim == nil {
		return ErrNoChange
	}
	var seen *ReportedVM
	for k := range state.VMs {
		if state.VMs[k].Instance == i.Public.InstanceID && state.VMs[k].Attempt == i.Attempt {
			seen = &state.VMs[k]
		}
	}
	before := i.clone()
	newSession := i.Claim.Session != req.Session
	switch {
	case !i.Claim.Done:
		i.observeStarting(v, state, req, newSession, now)
	case i.Restart != nil || i.Save != "" || i.Public.InstanceState == api.Error:
		// What happens to the VM now is part of the work.
	case seen == nil:
		if newSession {
			i.Fail("VM is gone since the agent or its host restarted", now)
		} else if v.AgeOf(i, now) > reportSkew {
			i.Fail("VM is gone from the node", now)
		}
	case seen.Running():
		if i.Public.InstanceState != api.Started {
			i.Become(api.Started, now)
		}
	case seen.Status == "stopped" || seen.Status == "suspended":
		if newSession && i.Public.InstanceState == api.Started {
			i.Fail("VM was stopped while the agent or its host restarted", now)
		} else if i.Public.InstanceState != api.Stopped && v.AgeOf(i, now) > reportSkew/3 {
			i.Become(api.Stopped, now)
		}
	case seen.Status == "failed":
		i.Fail("VM failed", now)
	}
	if i.Claim != nil && i.Claim.Done && newSession && seen != nil {
		claim := *i.Claim // adopted by the new session
		claim.Session = req.Session
		i.Claim = &claim
	}
	// A copy of an old heartbeat, such as one that a stopped controller finds when
	// it goes on, may still carry the VM as it was then.
	if i.Claim != nil && vm != nil && vm.Attempt == i.Attempt && req.Seq >= state.Seq {
		if info := v.complete(req.NodeID, &vm.Info); !sameVM(i.Public.VMInfo, info) {
			i.Public.VMInfo = info
			i.Public.TS = now
		}
	}
	if i.Public.InstanceState == before.Public.InstanceState && i.Claim == before.Claim && i.Public.VMInfo == before.Public.VMInfo {
		return ErrNoChange
	}
	return nil
}

// observeStarting puts a start back in the queue when its node does not hold the
// task any more.
func (i *Instance) observeStarting(v *View, state *NodeReport, req *api.SyncRequest, newSession bool, now time.Time) {
	if state.TasksHash == "" || slices.Contains(state.Tasks, i.TaskID()) {
		return
	}
	if newSession || v.AgeOf(i, now) > 4*reportSkew {
		i.Requeue("the node does not hold the task any more", now)
	}
}

// sameVM compares what matters of two looks at a VM: its times move with every
// look.
func sameVM(a, b *api.VMInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	x.Timestamp, y.Timestamp, x.AccessDate, y.AccessDate = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	return api.HashPart(x) == api.HashPart(y)
}
