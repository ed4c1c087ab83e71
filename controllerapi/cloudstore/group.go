package cloudstore

import (
	"context"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
)

// CreateGroup adds a group. answer is what the sender will be told.
func (s *Store) CreateGroup(ctx context.Context, g api.Group) error {
	return s.decide(ctx, func(v *cloud.View, now time.Time) (*cloud.Change, bool, error) {
		return v.CreateGroup(g)
	})
}

// UpdateGroup changes a group.
func (s *Store) UpdateGroup(ctx context.Context, id api.GroupID, u cloud.GroupUpdate) error {
	return s.decide(ctx, func(v *cloud.View, now time.Time) (*cloud.Change, bool, error) {
		return v.UpdateGroup(id, u)
	})
}

// DeleteGroup removes a group, its memberships, and what falls back to it.
func (s *Store) DeleteGroup(ctx context.Context, id api.GroupID) error {
	asked := false
	return s.decide(ctx, func(v *cloud.View, now time.Time) (*cloud.Change, bool, error) {
		c, certain, err := v.DeleteGroup(id, asked)
		asked = asked || err == nil
		return c, certain, err
	})
}

// ChangeMembers adds nodes to groups, or takes them out: all, or none.
func (s *Store) ChangeMembers(ctx context.Context, groups []api.GroupID, nodes []api.NodeID, add bool) error {
	return s.decide(ctx, func(v *cloud.View, now time.Time) (*cloud.Change, bool, error) {
		return v.ChangeMembers(groups, nodes, add)
	})
}
