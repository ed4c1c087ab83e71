package cloudstore

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
)

// startRequest returns the request that an instance was started by.
func (s *Store) startRequest(ctx context.Context, i *cloud.Instance) (api.StartRequest, error) {
	var req api.StartRequest
	kv, err := s.kit.Get(ctx, key(cloud.RequestRef(i.Request)))
	if err != nil {
		return req, err
	}
	if kv == nil {
		return req, fmt.Errorf("start request %s: %w", i.Request, cloud.ErrNotFound)
	}
	return req, json.Unmarshal(kv.Value, &req)
}

// updateInstance changes one instance. f is given a copy that it may change; it
// may be called more than once.
func (s *Store) updateInstance(ctx context.Context, id api.InstanceID, answer any, f func(v *cloud.View, i *cloud.Instance, now time.Time) error) error {
	var before, after *cloud.Instance
	err := s.decide(ctx, func(v *cloud.View, now time.Time) (*cloud.Change, bool, error) {
		before = v.Instances[id]
		c, next, err := v.UpdateInstance(id, func(i *cloud.Instance) error { return f(v, i, now) })
		if after = next; err != nil {
			return nil, false, err
		}
		c.Answer = answer
		return c, false, nil
	})
	if err == nil && after != nil {
		s.instanceEvent(before, after)
	}
	return err
}

// Terminate asks for an instance's end. It wins over all that the instance's
// node may still report. Repeating it is no error.
func (s *Store) Terminate(ctx context.Context, id api.InstanceID) error {
	return s.updateInstance(ctx, id, nil, func(v *cloud.View, i *cloud.Instance, now time.Time) error {
		return i.Terminate(v, now)
	})
}

// UpdateInstance changes what users keep with an instance.
func (s *Store) UpdateInstance(ctx context.Context, id api.InstanceID, u cloud.InstanceUpdate) error {
	return s.updateInstance(ctx, id, nil, func(_ *cloud.View, i *cloud.Instance, now time.Time) error {
		return i.Update(u, now)
	})
}

// RestartInstance asks for an instance's VM to be restarted. Its state stays.
func (s *Store) RestartInstance(ctx context.Context, id api.InstanceID, restart string, task api.RestartTask) error {
	return s.updateInstance(ctx, id, nil, func(_ *cloud.View, i *cloud.Instance, now time.Time) error {
		return i.RestartVM(restart, task, now)
	})
}

func (s *Store) event(kind string, facts map[string]any) {
	if s.OnEvent != nil {
		s.OnEvent(kind, facts)
	}
}

// instanceEvent tells of a change of state that this Store has committed.
func (s *Store) instanceEvent(before, after *cloud.Instance) {
	if before.Public.InstanceState == after.Public.InstanceState {
		return
	}
	if s.Starts != nil {
		cloud.ObserveStart(s.Starts, before, after)
	}
	if kind, facts := cloud.EventOf(before, after); kind != "" {
		s.event(kind, facts)
	}
}
