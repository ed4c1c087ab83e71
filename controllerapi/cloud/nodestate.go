package cloud

import (
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// upgradeLimit is how long a node may be Updating.
const upgradeLimit = 15 * time.Minute

// Alive reports whether the node's lease stands. Heartbeats renew it; etcd ends it when
// they have stayed out for the node timeout, or up to a third longer (leaseTTL in
// cloudstore), and the node is Offline then.
func (v *View) Alive(id api.NodeID) bool { return v.Leases[id] != nil }

// NodeState returns the documented word for a node's condition.
func (v *View) NodeState(n *Node, now time.Time) api.NodeState {
	switch {
	case !v.Alive(n.ID):
		return api.NodeOffline
	case !n.Facts.LicenseValid:
		return api.NodeInactive
	case v.Updating(n.ID, now):
		return api.NodeUpdating
	case n.Settings.DrainMode:
		return api.NodeDrain
	case v.unhealthy(n):
		return api.NodeUnhealthy
	}
	return api.NodeActive
}

// Accepting reports whether the node takes start tasks.
func (v *View) Accepting(n *Node, now time.Time) bool {
	return v.Alive(n.ID) && n.Facts.LicenseValid && !n.Settings.DrainMode && !v.Updating(n.ID, now)
}

// unhealthy: all slots are taken and none of the VMs runs.
func (v *View) unhealthy(n *Node) bool {
	total, used := v.Capacity(n)
	if total.VMs == 0 || used.VMs < total.VMs {
		return false
	}
	state := v.Reports[n.ID]
	if state == nil || len(state.VMs) < total.VMs {
		return false // the VMs are being made
	}
	for _, vm := range state.VMs {
		if vm.Running() {
			return false
		}
	}
	return true
}

// Updating reports whether the node replaces its agent: it has begun to, and has
// not been at it for too long.
func (v *View) Updating(id api.NodeID, now time.Time) bool {
	for job, j := range v.Rollouts {
		if j.Kind != api.TaskUpgrade || !j.nodes[id] {
			continue
		}
		if at := v.rolloutNodes[job][id]; at != nil && !at.Ended() && v.Age(orRev(at.BegunRev, at.Rev), now) < upgradeLimit {
			return true
		}
	}
	return false
}
