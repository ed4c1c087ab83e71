// Package keeper is what one controller of a cloud has to do for all: to settle
// instances whose node is gone, silent or late, to end what waits for ever, and to
// forget what has ended. It only finds out what is due, from a view and the time.
// Its user carries the duties out, each as a decision on a view that may be newer:
// two keepers at a time only cost conflicts.
package keeper

import (
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
)

const (
	// queueLimit is how long an instance may wait for a node.
	queueLimit = 24 * time.Hour
	// silentFor is how long a start may go without a report, from an agent that
	// does not list its tasks.
	silentFor = 15 * time.Minute
)

// Config are the times of the cloud.
type Config struct {
	// NodeActiveTimeout is how long after its last heartbeat a node is Offline, or up to a
	// third longer. Its lease
	// decides that (cloud.View.Alive); here it is the time that nodes get to come back
	// after an outage of etcd or of all controllers.
	NodeActiveTimeout time.Duration
	// InstanceActiveTimeout is how long an instance may be without word from its
	// node before it is failed.
	InstanceActiveTimeout time.Duration
	// InstanceTimeout is how long an ended instance stays in lists.
	InstanceTimeout time.Duration
}

// Duty is one change that is due. It is an Update of an instance, or a Decide.
type Duty struct {
	Instance api.InstanceID
	Update   func(v *cloud.View, i *cloud.Instance, now time.Time) error

	Decide func(v *cloud.View, now time.Time) (*cloud.Change, bool, error)
	// Repeat means that one change may not be enough: Decide is asked until it
	// finds nothing to do.
	Repeat bool

	// Failed is what the log says if it cannot be done, Kind what ID is of.
	Failed, Kind, ID string
}

// Keeper remembers what a view does not tell. It is for one goroutine.
type Keeper struct {
	cfg       Config
	since     time.Time                // of being keeper, and of etcd taking writes
	goneSince map[api.NodeID]time.Time // since when, as far as this keeper saw
}

// New returns a Keeper, whose duty begins with Begin.
func New(cfg Config) *Keeper {
	return &Keeper{cfg: cfg, goneSince: make(map[api.NodeID]time.Time)}
}

// Begin forgets what was seen: the duty begins now, or nodes could not be heard
// until now.
func (k *Keeper) Begin(now time.Time) {
	k.since = now
	clear(k.goneSince)
}

// Duties returns what is due.
func (k *Keeper) Duties(v *cloud.View, now time.Time) []Duty {
	k.noteOffline(v, now)
	duties := requests(v, now)
	for id, i := range v.Instances {
		if d := k.instance(v, i, now); d != nil {
			d.Instance, d.Failed, d.Kind, d.ID = id, "instance not kept", "instance_id", string(id)
			duties = append(duties, *d)
		}
	}
	return duties
}

// noteOffline notes which nodes with instances are offline, and since when.
func (k *Keeper) noteOffline(v *cloud.View, now time.Time) {
	for id := range v.Placements() {
		if v.Alive(id) {
			delete(k.goneSince, id)
		} else if _, ok := k.goneSince[id]; !ok {
			k.goneSince[id] = now
		}
	}
	for id := range k.goneSince {
		if v.OnNode(id) == nil {
			delete(k.goneSince, id)
		}
	}
}

// instance returns what is due with an instance, nil for nothing.
func (k *Keeper) instance(v *cloud.View, i *cloud.Instance, now time.Time) *Duty {
	id := i.Public.InstanceID
	switch {
	case v.Forgettable(i, now):
		return &Duty{Decide: func(v *cloud.View, now time.Time) (*cloud.Change, bool, error) { return v.Forget(id, now) }}
	case i.Deleted == nil && i.Ended() && v.AgeOf(i, now) >= k.cfg.InstanceTimeout:
		return &Duty{Update: hide}
	case i.Claim == nil || i.Public.InstanceState == api.Terminated:
		return nil
	}
	node := i.Claim.Node
	switch {
	case v.Nodes[node] == nil:
		return &Duty{Update: func(v *cloud.View, i *cloud.Instance, now time.Time) error { return i.SettleOrphan(v, node, now) }}
	case k.lost(v, i, now):
		return &Duty{Update: func(v *cloud.View, i *cloud.Instance, now time.Time) error { return settleOffline(v, i, node, now) }}
	case !i.Claim.Done && !i.Ended() && v.AgeOf(i, now) > silentFor && v.Reports[node] != nil && v.Reports[node].TasksHash == "":
		return &Duty{Update: func(v *cloud.View, i *cloud.Instance, now time.Time) error { return settleSilent(v, i, node, now) }}
	case v.RestartOverdue(i, now):
		return &Duty{Update: settleRestart}
	}
	return nil
}

// lost reports whether the instance's node has been away for too long. A node is
// offline when it has been silent for its own timeout; what runs on it may have a
// longer one. After an outage of ours, nodes get one full timeout to come back.
func (k *Keeper) lost(v *cloud.View, i *cloud.Instance, now time.Time) bool {
	node := i.Claim.Node
	if v.Alive(node) || now.Sub(k.since) < k.cfg.NodeActiveTimeout || i.Ended() || i.Public.InstanceState == api.Error {
		return false
	}
	grace := k.cfg.InstanceActiveTimeout - k.cfg.NodeActiveTimeout
	return !i.Claim.Done || now.Sub(k.goneSince[node]) >= grace
}

// hide takes an instance that has ended out of the lists.
func hide(_ *cloud.View, i *cloud.Instance, now time.Time) error {
	if i.Deleted != nil || !i.Ended() {
		return cloud.ErrNoChange
	}
	i.MarkDeleted(now)
	return nil
}

// settleOffline settles an instance whose node has been away for its timeout.
func settleOffline(v *cloud.View, i *cloud.Instance, node api.NodeID, now time.Time) error {
	if i.Ended() || i.Claim == nil || i.Claim.Node != node || v.Alive(node) {
		return cloud.ErrNoChange
	}
	if !i.Claim.Done {
		i.Requeue("node is offline", now)
		return nil
	}
	if i.Public.InstanceState == api.Error {
		return cloud.ErrNoChange
	}
	i.Fail("node is offline", now)
	return nil
}

// settleSilent settles an instance whose start was not reported for too long.
func settleSilent(v *cloud.View, i *cloud.Instance, node api.NodeID, now time.Time) error {
	if i.Ended() || i.Claim == nil || i.Claim.Node != node || i.Claim.Done || v.AgeOf(i, now) <= silentFor {
		return cloud.ErrNoChange
	}
	if i.Attempt >= cloud.MaxAttempts {
		i.Fail("no report from the node", now)
		return nil
	}
	i.Requeue("no report from the node", now)
	return nil
}

// settleRestart fails an instance whose restart has taken too long.
func settleRestart(v *cloud.View, i *cloud.Instance, now time.Time) error {
	if !v.RestartOverdue(i, now) {
		return cloud.ErrNoChange
	}
	i.Fail("not restarted within "+cloud.RestartLimit.String(), now)
	return nil
}

// requests returns what is due with save-image requests and roll-outs: to end what
// is stuck, and to forget what is old.
func requests(v *cloud.View, now time.Time) []Duty {
	var duties []Duty
	for id, img := range v.SaveRequests {
		if img.Status != cloud.SavePending {
			if v.Age(img.Rev, now) > cloud.RecordsFor {
				duties = append(duties, Duty{
					Decide: func(v *cloud.View, _ time.Time) (*cloud.Change, bool, error) { return v.ForgetSave(id) },
					Failed: "old save-image request not forgotten", Kind: "request", ID: id,
				})
			}
		} else if why := v.StuckSave(img, now); why != "" {
			duties = append(duties, Duty{
				Decide: func(v *cloud.View, now time.Time) (*cloud.Change, bool, error) { return v.EndSave(id, why, now) },
				Failed: "stuck save-image request not ended", Kind: "request", ID: id,
			})
		}
	}
	for id, r := range v.Rollouts {
		if v.Age(r.Rev, now) > cloud.RecordsFor+cloud.RolloutLimit {
			duties = append(duties, Duty{
				Decide: func(v *cloud.View, _ time.Time) (*cloud.Change, bool, error) { return v.ForgetRollout(id) }, Repeat: true,
				Failed: "old job not forgotten", Kind: "job", ID: id,
			})
		}
	}
	return duties
}

// EndedWaits returns the duties to end the wait of instances that no node has
// taken for a day.
func EndedWaits(v *cloud.View, now time.Time) []Duty {
	var duties []Duty
	for id, i := range v.Pending() {
		if v.AgeOf(i, now) > queueLimit {
			duties = append(duties, Duty{
				Instance: id, Update: endWait,
				Failed: "instance that waits for ever not ended", Kind: "instance_id", ID: string(id),
			})
		}
	}
	return duties
}

func endWait(v *cloud.View, i *cloud.Instance, now time.Time) error {
	if !i.Pending() || v.AgeOf(i, now) <= queueLimit {
		return cloud.ErrNoChange
	}
	i.Fail("no node has taken it for "+queueLimit.String(), now)
	return nil
}

// UnfinishedStarts returns the start requests of several transactions that have
// been unfinished for some time: the controller that began one has died.
func UnfinishedStarts(v *cloud.View, now time.Time, since time.Duration) []string {
	var ids []string
	for id, b := range v.LargeStarts {
		if len(b.Instances) > 0 && v.Age(b.Rev, now) > since {
			ids = append(ids, id)
		}
	}
	return ids
}

// UsedRequests returns the start requests that an instance has, or will have.
func UsedRequests(v *cloud.View) map[string]bool {
	used := make(map[string]bool)
	for _, i := range v.Instances {
		used[i.Request] = true
	}
	for id := range v.LargeStarts {
		used[id] = true
	}
	return used
}
