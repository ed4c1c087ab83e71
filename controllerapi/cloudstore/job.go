package cloudstore

import (
	"context"
	"fmt"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// jobLimit is how long a job may take.
const jobLimit = 24 * time.Hour

// Job is a task for each of several nodes: to fetch a template, to remove one, or
// to upgrade the agent. How it stands at each node is in a record of its own, so
// that ten thousand nodes do not write one key.
type Job struct {
	ID       string                      `json:"id"`
	Kind     api.TaskKind                `json:"kind"`
	Template api.TemplateRef             `json:"template,omitzero"`
	Upgrade  map[string]*api.UpgradeTask `json:"upgrade,omitempty"` // by host architecture
	Nodes    []api.NodeID                `json:"nodes"`
	Created  time.Time                   `json:"created"`
	Canceled bool                        `json:"canceled,omitempty"`

	nodes map[api.NodeID]bool
	rev   int64
}

// JobNode is how a job stands at a node that has begun with it.
type JobNode struct {
	Progress float64   `json:"progress"`
	Done     bool      `json:"done,omitempty"`
	Error    string    `json:"error,omitempty"`
	Begun    time.Time `json:"begun"`
	BegunRev int64     `json:"begun_rev,omitempty"` // about when
	At       time.Time `json:"at"`
	Seq      int64     `json:"seq"`
	Attempt  int       `json:"attempt,omitempty"`

	rev int64
}

// Ended reports whether the node has done with the job.
func (n *JobNode) Ended() bool { return n.Done || n.Error != "" }

func (j *Job) index(ch *Changes) {
	j.nodes = make(map[api.NodeID]bool, len(j.Nodes))
	for _, n := range j.Nodes {
		j.nodes[n] = true
		ch.node(n)
	}
}

func jobTaskID(job string, node api.NodeID) api.TaskID {
	return api.TaskID(taskJob + "." + job + "." + string(node))
}

// CreateJob adds a job; its nodes must exist.
func (s *Store) CreateJob(ctx context.Context, job Job, answer any) error {
	return s.decide(ctx, func(v *View, now time.Time) (*Change, bool, error) {
		return v.createJob(job, answer, now)
	})
}

// createJob adds a job; its nodes must exist.
func (v *View) createJob(job Job, answer any, now time.Time) (*Change, bool, error) {
	if v.Jobs[job.ID] != nil {
		return nil, true, errNoChange // an earlier attempt of ours went through
	}
	for _, n := range job.Nodes {
		if v.Nodes[n] == nil {
			return nil, false, fmt.Errorf("%w %s", ErrNoSuchNode, n)
		}
	}
	job.Created = now
	c := &Change{Answer: answer}
	c.must(clockRef, v.clock)
	c.must(jobRef(job.ID), 0)
	c.put(jobRef(job.ID), job)
	return c, false, nil
}

// CancelJob ends a job at the nodes that have not done with it.
func (s *Store) CancelJob(ctx context.Context, id string) error {
	return s.decide(ctx, func(v *View, now time.Time) (*Change, bool, error) {
		return v.cancelJob(id)
	})
}

// cancelJob ends a job at the nodes that have not done with it.
func (v *View) cancelJob(id string) (*Change, bool, error) {
	cur := v.Jobs[id]
	if cur == nil {
		return nil, false, ErrNotFound
	}
	if cur.Canceled {
		return nil, true, errNoChange
	}
	next := *cur
	next.Canceled = true
	c := new(Change)
	c.must(jobRef(id), cur.rev)
	c.put(jobRef(id), next)
	return c, false, nil
}

// JobAt returns how a job stands at a node: nothing persists half, so a job that
// was cancelled or has taken too long is an error where it is not done.
func (v *View) JobAt(j *Job, node api.NodeID, now time.Time) JobNode {
	at := JobNode{}
	if cur := v.jobNodes[j.ID][node]; cur != nil {
		at = *cur
	}
	switch {
	case at.Ended():
	case j.Canceled:
		at.Error = "canceled"
	case v.Nodes[node] == nil:
		at.Error = "node was removed"
	case v.age(j.rev, now) > jobLimit:
		at.Error = "not done within " + jobLimit.String()
	}
	return at
}

// jobOpen reports whether the job is the node's to do.
func (v *View) jobOpen(id string, node api.NodeID) bool {
	j := v.Jobs[id]
	if j == nil || !j.nodes[node] {
		return false
	}
	at := v.JobAt(j, node, v.Now())
	return !at.Ended()
}

func (v *View) jobTask(id api.TaskID, ref string, node api.NodeID) *api.Task {
	j, arch := v.Jobs[ref], ""
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

// reportJob takes a node's report of a job.
func (s *Store) reportJob(ctx context.Context, req *api.ReportRequest, ref string) error {
	return s.decide(ctx, func(v *View, now time.Time) (*Change, bool, error) {
		return v.reportJob(req, ref, now)
	})
}

// reportJob takes a node's report of a job.
func (v *View) reportJob(req *api.ReportRequest, ref string, now time.Time) (*Change, bool, error) {
	j := v.Jobs[ref]
	if j == nil || !j.nodes[req.NodeID] || req.TaskID != jobTaskID(ref, req.NodeID) {
		return nil, false, errNotYours
	}
	cur := v.jobNodes[ref][req.NodeID]
	next, rev := JobNode{Begun: now, BegunRev: v.rev}, int64(0)
	if cur != nil {
		next, rev = *cur, cur.rev
	}
	if next.Ended() || cur != nil && req.Seq <= cur.Seq {
		return nil, false, errNoChange
	}
	if at := v.JobAt(j, req.NodeID, now); at.Ended() {
		return nil, false, errNotYours
	}
	next.Seq, next.At = req.Seq, now
	switch req.Phase {
	case api.PhaseProgress:
		next.Progress = min(max(req.Progress, 0), 0.99) // 1 is for what is done
		if cur != nil && diff(next.Progress, cur.Progress) < progressStep && v.age(cur.rev, now) < seenEvery {
			return nil, false, errNoChange
		}
	case api.PhaseDone:
		next.Progress, next.Done = 1, true
	default:
		next.Error = orElse(req.Message, "the node could not do it")
	}
	c := new(Change)
	c.must(jobRef(ref), j.rev)
	c.must(jobNodeRef(ref, req.NodeID), rev)
	c.put(jobNodeRef(ref, req.NodeID), next)
	return c, false, nil
}

// forgetJob deletes a job with what nodes said of it.
func (s *Store) forgetJob(ctx context.Context, id string) error {
	for {
		more := false
		err := s.decide(ctx, func(v *View, _ time.Time) (*Change, bool, error) {
			var c *Change
			var err error
			c, more, err = v.forgetJob(id)
			return c, err != nil, err
		})
		if err != nil || !more {
			return err
		}
	}
}

// forgetJob deletes a job with what nodes said of it, and reports whether there
// is more than one change takes.
func (v *View) forgetJob(id string) (c *Change, more bool, err error) {
	cur := v.Jobs[id]
	if cur == nil {
		return nil, false, errNoChange
	}
	c = new(Change)
	c.must(jobRef(id), cur.rev)
	for node := range v.jobNodes[id] {
		if len(c.Ops) >= maxOps {
			return c, true, nil
		}
		c.delete(jobNodeRef(id, node))
	}
	c.delete(jobRef(id))
	return c, false, nil
}
