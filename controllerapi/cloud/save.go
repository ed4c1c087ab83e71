package cloud

import (
	"errors"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// States of a save-image request.
const (
	SavePending = "pending"
	SaveDone    = "done"
	SaveError   = "error"
)

const (
	// saveSilent is how long a save-image request may go without a report.
	saveSilent = 30 * time.Minute
	// RecordsFor is how long ended requests and roll-outs can be asked for.
	RecordsFor = 24 * time.Hour
)

// SaveRequest is a save-image request.
type SaveRequest struct {
	ID       string            `json:"id"`
	Instance api.InstanceID    `json:"instance"`
	Node     api.NodeID        `json:"node"`
	Attempt  int               `json:"attempt"`
	Task     api.SaveImageTask `json:"task"`
	VMID     string            `json:"vmid"` // the VM's own id
	Status   string            `json:"status"`
	Error    string            `json:"error,omitempty"`
	Script   *api.ScriptResult `json:"script,omitempty"`
	// LongOutput is as in Instance.
	LongOutput bool      `json:"long_output,omitempty"`
	Created    time.Time `json:"created"`
	Seen       time.Time `json:"seen"`
	Seq        int64     `json:"seq"`

	Rev int64 `json:"-"`
}

// ErrBadState: the instance is in no state for what was asked.
var ErrBadState = errors.New("the instance is not in a state for this")

func saveTaskID(id string) api.TaskID { return api.TaskID(SaveLetter + "." + id) }

// Save asks for an instance's VM to be pushed. task is complete.
func (v *View) Save(instance api.InstanceID, task api.SaveImageTask, answer any, now time.Time) (*Change, bool, error) {
	i := v.Instances[instance]
	if i == nil || i.Deleted != nil {
		return nil, false, ErrNotFound
	}
	if v.SaveRequests[task.RequestID] != nil {
		return nil, true, ErrNoChange // an earlier attempt of ours went through
	}
	if i.Claim == nil || !i.Claim.Done || i.Save != "" || i.Restart != nil || !mayBecome(i.Public.InstanceState, api.Pushing) {
		return nil, false, ErrBadState
	}
	next := i.clone()
	next.Become(api.Pushing, now)
	next.Save = task.RequestID
	img := SaveRequest{
		ID: task.RequestID, Instance: instance, Node: i.Claim.Node, Attempt: i.Attempt, Task: task,
		Status: SavePending, Created: now, Seen: now,
	}
	if i.Public.VMInfo != nil {
		img.VMID = i.Public.VMInfo.UUID
	}
	c := &Change{Answer: answer}
	c.Must(InstanceRef(instance), i.Rev)
	c.Must(SaveRef(img.ID), 0)
	c.Must(FenceRef, v.FenceRev)
	c.Put(InstanceRef(instance), next)
	c.Put(SaveRef(img.ID), img)
	return c, false, nil
}

func (v *View) saveTask(id api.TaskID, ref string) *api.Task {
	img := v.SaveRequests[ref]
	if img == nil {
		return nil
	}
	task := img.Task
	return &api.Task{ID: id, Kind: api.TaskSaveImage, InstanceID: img.Instance, Attempt: img.Attempt, SaveImage: &task}
}

// ReportSave takes a report of a save-image task.
func (v *View) ReportSave(req *api.ReportRequest, ref string, now time.Time) (*Change, bool, error) {
	img := v.SaveRequests[ref]
	if img == nil {
		return nil, false, ErrNotFound
	}
	if img.Node != req.NodeID {
		return nil, false, ErrNotYours
	}
	if img.Status != SavePending {
		if i := v.Instances[img.Instance]; i == nil || i.Ended() {
			return nil, false, ErrNotYours
		}
		return nil, false, ErrNoChange
	}
	if req.Seq <= img.Seq {
		return nil, false, ErrNoChange
	}
	c := new(Change)
	next := *img
	next.Seq, next.Seen = req.Seq, now
	if req.Script != nil {
		next.Script, next.LongOutput = Shorten(req.Script)
	}
	switch req.Phase {
	case api.PhaseProgress:
		if v.Age(img.Rev, now) < seenEvery {
			return nil, false, ErrNoChange
		}
	case api.PhaseDone:
		next.Status = SaveDone
		v.afterSave(c, img, true, req.VM, now)
	default:
		next.Status, next.Error = SaveError, orElse(req.Message, "the node could not save the image")
		v.afterSave(c, img, false, req.VM, now)
	}
	c.Must(SaveRef(ref), img.Rev)
	c.Put(SaveRef(ref), next)
	return c, false, nil
}

// afterSave settles the instance of a save-image request that has ended: after
// a push it disappears, and its node removes what is left of the VM; else it
// stays.
func (v *View) afterSave(c *Change, img *SaveRequest, pushed bool, vm *api.VMInfo, now time.Time) {
	i := v.Instances[img.Instance]
	if i == nil || i.Save != img.ID || i.Ended() {
		return
	}
	next := i.clone()
	next.Save = ""
	if vm != nil {
		next.Public.VMInfo = v.complete(img.Node, vm)
	}
	next.Public.TS = now
	switch {
	case pushed:
		next.Become(api.Terminating, now)
		next.MarkDeleted(now)
	case next.Public.VMInfo != nil && next.Public.VMInfo.Status != "running":
		next.Become(api.Stopped, now)
	default:
		next.Become(api.Started, now)
	}
	c.Must(InstanceRef(img.Instance), i.Rev)
	c.Put(InstanceRef(img.Instance), next)
}

// EndSave ends a request whose work has stopped.
func (v *View) EndSave(id, why string, now time.Time) (*Change, bool, error) {
	img := v.SaveRequests[id]
	if img == nil || img.Status != SavePending {
		return nil, true, ErrNoChange
	}
	c := new(Change)
	next := *img
	next.Status, next.Error, next.Seen = SaveError, why, now
	c.Must(SaveRef(id), img.Rev)
	c.Put(SaveRef(id), next)
	v.afterSave(c, img, false, nil, now)
	return c, false, nil
}

// ForgetSave deletes a request with what its script said.
func (v *View) ForgetSave(id string) (*Change, bool, error) {
	if v.SaveRequests[id] == nil {
		return nil, true, ErrNoChange
	}
	c := new(Change)
	c.Delete(SaveRef(id))
	c.Delete(OutputRef(id, "stdout"))
	c.Delete(OutputRef(id, "stderr"))
	return c, false, nil
}

// StuckSave returns why a request will not end by itself, or "".
func (v *View) StuckSave(img *SaveRequest, now time.Time) string {
	i := v.Instances[img.Instance]
	switch {
	case i == nil || i.Ended():
		return "the instance was terminated"
	case i.Save != img.ID:
		return orElse(i.Public.Message, "the instance is in error")
	case v.Nodes[img.Node] == nil:
		return "the node was removed"
	case v.Age(img.Rev, now) > saveSilent:
		return "no report from the node for " + saveSilent.String()
	}
	return ""
}
