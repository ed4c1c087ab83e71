package cloudstore

import (
	"context"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// ConfigureNode changes a node's settings; nil is unchanged.
func (s *Store) ConfigureNode(ctx context.Context, id api.NodeID, set api.SeedSettings, host *string) error {
	return s.decide(ctx, func(v *View, now time.Time) (*Change, bool, error) {
		return v.ConfigureNode(id, set, host)
	})
}

// ConfigureNode changes a node's settings; nil is unchanged.
func (v *View) ConfigureNode(id api.NodeID, set api.SeedSettings, host *string) (*Change, bool, error) {
	cur := v.Nodes[id]
	if cur == nil {
		return nil, false, ErrNotFound
	}
	next := *cur
	seed(&next.Settings, set)
	assign(&next.Settings.Host, host)
	if api.HashPart(next) == api.HashPart(cur) {
		return nil, false, ErrNoChange
	}
	c := new(Change)
	c.Must(NodeRef(id), cur.Rev)
	c.Put(NodeRef(id), next)
	return c, false, nil
}

// RestartInstance asks for an instance's VM to be restarted. Its state stays.
func (s *Store) RestartInstance(ctx context.Context, id api.InstanceID, restart string, task api.RestartTask) error {
	return s.updateInstance(ctx, id, nil, func(_ *View, i *Instance, now time.Time) error {
		return i.RestartVM(restart, task, now)
	})
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
	if i.Claim == nil || !i.Claim.Done || i.Image != "" || st != api.Started && st != api.Stopped {
		return ErrBadState
	}
	i.Restart = &Restart{ID: id, At: now, Task: task}
	return nil
}
