package cloudstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
)

// Begin looks at what is known of a reservation when a long poll begins. A proxy
// may keep a poll that its sender gave up, and that sender has begun another with
// the same reservation, has its task, and even has ended it: what the first poll
// was given then would reach no agent.
func (s *Store) Begin(r *cloud.Reservation) {
	s.Read(func(v *cloud.View) { r.Repeat = v.Reserved(*r) })
}

// HandedTask returns the task that this reservation was given before and that is
// not over, or nil.
func (s *Store) HandedTask(ctx context.Context, r cloud.Reservation) (*api.Task, error) {
	var id api.TaskID
	s.Read(func(v *cloud.View) { id = v.OpenTask(r, s.now()) })
	if id == "" {
		return nil, nil
	}
	if err := s.renewClaim(ctx, r, id); err != nil {
		return nil, ignoreTaken(err)
	}
	return s.task(ctx, r.Node, id)
}

// renewClaim makes sure that a start that is handed out again is still the
// reservation's, and will not be taken for lost while it is on its way.
func (s *Store) renewClaim(ctx context.Context, r cloud.Reservation, id api.TaskID) error {
	kind, ref, _ := cloud.SplitTask(id)
	if kind != cloud.StartLetter {
		return nil
	}
	return s.updateInstance(ctx, api.InstanceID(ref), nil, func(v *cloud.View, i *cloud.Instance, now time.Time) error {
		return i.RenewClaim(v, r, id, now)
	})
}

func ignoreTaken(err error) error {
	if errors.Is(err, cloud.ErrTaken) || errors.Is(err, cloud.ErrNotFound) {
		return nil
	}
	return err
}

// HandOut gives a waiting reservation one of the tasks that only its node can do,
// or returns nil when there is none.
func (s *Store) HandOut(ctx context.Context, r cloud.Reservation) (*api.Task, error) {
	var id api.TaskID
	s.Read(func(v *cloud.View) { id = v.NextNodeTask(r, s.now()) })
	if id == "" {
		return nil, nil
	}
	err := s.decide(ctx, func(v *cloud.View, now time.Time) (c *cloud.Change, certain bool, err error) {
		id, c, certain, err = v.HandOut(r, now)
		return c, certain, err
	})
	if err != nil || id == "" {
		return nil, err
	}
	return s.task(ctx, r.Node, id)
}

// Claim places a waiting instance on the reservation's node. It returns ErrTaken
// when that is not possible any more.
func (s *Store) Claim(ctx context.Context, r cloud.Reservation, id api.InstanceID) (*api.Task, error) {
	var task api.TaskID
	err := s.decide(ctx, func(v *cloud.View, now time.Time) (c *cloud.Change, certain bool, err error) {
		task, c, certain, err = v.Claim(r, id, now)
		return c, certain, err
	})
	if err != nil {
		return nil, err
	}
	return s.task(ctx, r.Node, task)
}

// task returns a task with all that the node needs for it, or nil when it is
// over already.
func (s *Store) task(ctx context.Context, node api.NodeID, id api.TaskID) (t *api.Task, err error) {
	var i *cloud.Instance
	s.Read(func(v *cloud.View) { t, i = v.Task(node, id) })
	if t == nil || t.Start == nil {
		return t, nil
	}
	t.Start.Request, err = s.startRequest(ctx, i)
	if errors.Is(err, cloud.ErrNotFound) {
		return nil, nil // ended and forgotten
	}
	if err != nil {
		return nil, fmt.Errorf("read start request of %s: %w", t.InstanceID, err)
	}
	return t, nil
}
