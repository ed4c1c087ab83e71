package cloud

import (
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// RolloutLimit is how long a rollout may take.
const RolloutLimit = 24 * time.Hour

// Rollout is a task for each of several nodes: to fetch a template, to remove one, or
// to upgrade the agent. How it stands at each node is in a record of its own, so
// that ten thousand nodes do not write one key.
type Rollout struct {
	ID       string                      `json:"id"`
	Kind     api.TaskKind                `json:"kind"`
	Template api.TemplateRef             `json:"template,omitzero"`
	Upgrade  map[string]*api.UpgradeTask `json:"upgrade,omitempty"` // by host architecture
	Nodes    []api.NodeID                `json:"nodes"`
	Created  time.Time                   `json:"created"`
	Canceled bool                        `json:"canceled,omitempty"`

	nodes map[api.NodeID]bool
	Rev   int64 `json:"-"`
}

// RolloutNode is how a rollout stands at a node that has begun with it.
type RolloutNode struct {
	Progress float64   `json:"progress"`
	Done     bool      `json:"done,omitempty"`
	Error    string    `json:"error,omitempty"`
	Begun    time.Time `json:"begun"`
	BegunRev int64     `json:"begun_rev,omitempty"` // about when
	At       time.Time `json:"at"`
	Seq      int64     `json:"seq"`
	Attempt  int       `json:"attempt,omitempty"`

	Rev int64 `json:"-"`
}

// Ended reports whether the node has done with the rollout.
func (n *RolloutNode) Ended() bool { return n.Done || n.Error != "" }

func (j *Rollout) index(ch *Changes) {
	j.nodes = make(map[api.NodeID]bool, len(j.Nodes))
	for _, n := range j.Nodes {
		j.nodes[n] = true
		ch.Node(n)
	}
}

func rolloutTaskID(job string, node api.NodeID) api.TaskID {
	return api.TaskID(RolloutLetter + "." + job + "." + string(node))
}

// CreateRollout adds a rollout; its nodes must exist.
func (v *View) CreateRollout(job Rollout, answer any, now time.Time) (*Change, bool, error) {
	if v.Rollouts[job.ID] != nil {
		return nil, true, ErrNoChange // an earlier attempt of ours went through
	}
	for _, n := range job.Nodes {
		if v.Nodes[n] == nil {
			return nil, false, refuse(ErrNoSuchNode, " %s", n)
		}
	}
	job.Created = now
	c := &Change{Answer: answer}
	c.Must(FenceRef, v.FenceRev)
	c.Must(RolloutRef(job.ID), 0)
	c.Put(RolloutRef(job.ID), job)
	return c, false, nil
}

// CancelRollout ends a rollout at the nodes that have not done with it.
func (v *View) CancelRollout(id string) (*Change, bool, error) {
	cur := v.Rollouts[id]
	if cur == nil {
		return nil, false, ErrNotFound
	}
	if cur.Canceled {
		return nil, true, ErrNoChange
	}
	next := *cur
	next.Canceled = true
	c := new(Change)
	c.Must(RolloutRef(id), cur.Rev)
	c.Put(RolloutRef(id), next)
	return c, false, nil
}

// RolloutAt returns how a rollout stands at a node: nothing persists half, so a rollout that
// was cancelled or has taken too long is an error where it is not done.
func (v *View) RolloutAt(j *Rollout, node api.NodeID, now time.Time) RolloutNode {
	at := RolloutNode{}
	if cur := v.rolloutNodes[j.ID][node]; cur != nil {
		at = *cur
	}
	switch {
	case at.Ended():
	case j.Canceled:
		at.Error = "canceled"
	case v.Nodes[node] == nil:
		at.Error = "node was removed"
	case v.Age(j.Rev, now) > RolloutLimit:
		at.Error = "not done within " + RolloutLimit.String()
	}
	return at
}

// rolloutOpen reports whether the rollout is the node's to do.
func (v *View) rolloutOpen(id string, node api.NodeID, now time.Time) bool {
	j := v.Rollouts[id]
	if j == nil || !j.nodes[node] {
		return false
	}
	at := v.RolloutAt(j, node, now)
	return !at.Ended()
}

func (v *View) rolloutTask(id api.TaskID, ref string, node api.NodeID) *api.Task {
	j, arch := v.Rollouts[ref], ""
	if n := v.Nodes[node]; n != nil {
		arch = n.Facts.HostArch
	}
	if j == nil {
		return nil
	}
	t := &api.Task{ID: id, Kind: j.Kind, Attempt: 1}
	switch j.Kind {
	case api.TaskDistribute:
		t.Distribute = &api.DistributeTask{RequestID: j.ID, Template: j.Template}
	case api.TaskRemove:
		t.Remove = &api.RemoveTask{TemplateID: j.Template.ID}
	case api.TaskUpgrade:
		t.Upgrade = j.Upgrade[arch]
	}
	return t
}

// ReportRollout takes a node's report of a rollout.
func (v *View) ReportRollout(req *api.ReportRequest, ref string, now time.Time) (*Change, bool, error) {
	j := v.Rollouts[ref]
	if j == nil || !j.nodes[req.NodeID] || req.TaskID != rolloutTaskID(ref, req.NodeID) {
		return nil, false, ErrNotYours
	}
	cur := v.rolloutNodes[ref][req.NodeID]
	next, rev := RolloutNode{Begun: now, BegunRev: v.Rev}, int64(0)
	if cur != nil {
		next, rev = *cur, cur.Rev
	}
	if next.Ended() || cur != nil && req.Seq <= cur.Seq {
		return nil, false, ErrNoChange
	}
	if at := v.RolloutAt(j, req.NodeID, now); at.Ended() {
		return nil, false, ErrNotYours
	}
	next.Seq, next.At = req.Seq, now
	switch req.Phase {
	case api.PhaseProgress:
		next.Progress = min(max(req.Progress, 0), 0.99) // 1 is for what is done
		if cur != nil && diff(next.Progress, cur.Progress) < progressStep && v.Age(cur.Rev, now) < seenEvery {
			return nil, false, ErrNoChange
		}
	case api.PhaseDone:
		next.Progress, next.Done = 1, true
	default:
		next.Error = orElse(req.Message, "the node could not do it")
	}
	c := new(Change)
	c.Must(RolloutRef(ref), j.Rev)
	c.Must(RolloutNodeRef(ref, req.NodeID), rev)
	c.Put(RolloutNodeRef(ref, req.NodeID), next)
	return c, false, nil
}

// ForgetRollout deletes a rollout with what nodes said of it, as much as one change
// takes.
func (v *View) ForgetRollout(id string) (*Change, bool, error) {
	cur := v.Rollouts[id]
	if cur == nil {
		return nil, true, ErrNoChange
	}
	c := new(Change)
	c.Must(RolloutRef(id), cur.Rev)
	for node := range v.rolloutNodes[id] {
		if len(c.Ops) >= maxOps {
			return c, false, nil
		}
		c.Delete(RolloutNodeRef(id, node))
	}
	c.Delete(RolloutRef(id))
	return c, false, nil
}
