package cloud

import (
	"errors"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// ErrNotFound: there is no such record.
var ErrNotFound = errors.New("not found")

// clone returns a copy to be changed. What its pointers point to is shared.
func (i *Instance) clone() *Instance {
	return &Instance{
		Public: i.Public, Request: i.Request, Template: i.Template, Priority: i.Priority, PinNode: i.PinNode,
		VCPU: i.VCPU, RAM: i.RAM, Attempt: i.Attempt, Claim: i.Claim, Avoid: i.Avoid, Restart: i.Restart,
		Save: i.Save, LongOutput: i.LongOutput, Deleted: i.Deleted, Since: i.Since, Rev: i.Rev, Created: i.Created,
	}
}

// Become changes the state, or reports that there is no such way.
func (i *Instance) Become(to api.InstanceState, now time.Time) bool {
	if !mayBecome(i.Public.InstanceState, to) {
		return false
	}
	if i.Public.InstanceState != to {
		i.Public.InstanceState = to
		i.Public.TS = now
		i.Since = now
	}
	return true
}

// MarkDeleted takes the instance out of the lists.
func (i *Instance) MarkDeleted(now time.Time) { i.Deleted = &now }

// UpdateInstance changes one instance as f changes a copy of it, which it returns
// too.
func (v *View) UpdateInstance(id api.InstanceID, f func(*Instance) error) (c *Change, next *Instance, err error) {
	cur := v.Instances[id]
	if cur == nil {
		return nil, nil, ErrNotFound
	}
	next = cur.clone()
	if err := f(next); err != nil {
		return nil, nil, err
	}
	next.stamp(v.Rev)
	c = new(Change)
	c.Must(InstanceRef(id), cur.Rev)
	c.Put(InstanceRef(id), next)
	return c, next, nil
}

// stamp notes at which revision what is new in the instance was decided.
func (i *Instance) stamp(rev int64) {
	if n := len(i.Avoid); n > 0 && i.Avoid[n-1].Rev == 0 {
		i.Avoid[n-1].Rev = rev // requeue has made the slice anew
	}
	if i.Restart != nil && i.Restart.Rev == 0 {
		restart := *i.Restart
		restart.Rev = rev
		i.Restart = &restart
	}
}

// Terminate begins the end. An instance without a node, or whose node is no
// more, is at its end at once.
func (i *Instance) Terminate(v *View, now time.Time) error {
	if i.Ended() {
		return ErrNoChange
	}
	i.Become(api.Terminating, now)
	i.Restart = nil
	if i.Claim != nil && v.Nodes[i.Claim.Node] != nil {
		return nil
	}
	i.Become(api.Terminated, now)
	i.MarkDeleted(now)
	return nil
}

// InstanceUpdate is what PUT /api/v1/vm changes; nil is unchanged.
type InstanceUpdate struct {
	Name       *string
	ExternalID *string
	Metadata   api.Metadata
}

// Update changes what users keep with the instance.
func (i *Instance) Update(u InstanceUpdate, now time.Time) error {
	if i.Deleted != nil {
		return ErrNotFound
	}
	if u.Name != nil {
		i.Public.Name = *u.Name
	}
	if u.ExternalID != nil {
		i.Public.ExternalID = *u.ExternalID
	}
	if u.Metadata != nil {
		i.Public.Metadata = u.Metadata
	}
	i.Public.TS = now
	return nil
}

// RestartVM asks for a restart of the instance's VM under an id that the caller has
// chosen.
func (i *Instance) RestartVM(id string, task api.RestartTask, now time.Time) error {
	if i.Deleted != nil {
		return ErrNotFound
	}
	if i.Restart != nil && i.Restart.ID == id {
		return ErrNoChange // an earlier attempt of ours went through
	}
	st := i.Public.InstanceState
	if i.Claim == nil || !i.Claim.Done || i.Save != "" || st != api.Started && st != api.Stopped {
		return ErrBadState
	}
	i.Restart = &Restart{ID: id, At: now, Task: task}
	return nil
}
