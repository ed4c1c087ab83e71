package cloudstore

import (
	"context"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
)

// CreateRollout adds a rollout; its nodes must exist.
func (s *Store) CreateRollout(ctx context.Context, job cloud.Rollout, answer any) error {
	return s.decide(ctx, func(v *cloud.View, now time.Time) (*cloud.Change, bool, error) {
		return v.CreateRollout(job, answer, now)
	})
}

// CancelRollout ends a rollout at the nodes that have not done with it.
func (s *Store) CancelRollout(ctx context.Context, id string) error {
	return s.decide(ctx, func(v *cloud.View, now time.Time) (*cloud.Change, bool, error) {
		return v.CancelRollout(id)
	})
}

// reportRollout takes a node's report of a rollout.
func (s *Store) reportRollout(ctx context.Context, req *api.ReportRequest, ref string) error {
	return s.decide(ctx, func(v *cloud.View, now time.Time) (*cloud.Change, bool, error) {
		return v.ReportRollout(req, ref, now)
	})
}
