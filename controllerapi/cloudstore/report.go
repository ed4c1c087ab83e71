package cloudstore

import (
	"context"
	"errors"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
)

// Report takes what a node says of a task. It reports whether the task is not
// the node's any more.
func (s *Store) Report(ctx context.Context, req *api.ReportRequest) (abandon bool, err error) {
	if err := s.CheckSession(ctx, req.NodeID, req.Session); err != nil {
		return false, err
	}
	kind, ref, rest := cloud.SplitTask(req.TaskID)
	id := api.InstanceID(ref)
	switch kind {
	case cloud.StartLetter:
		if err := s.storeOutput(ctx, req, cloud.InstanceRef(id), ref); err != nil {
			return false, err
		}
		err = s.updateInstance(ctx, id, nil, func(v *cloud.View, i *cloud.Instance, now time.Time) error {
			return i.ReportStart(v, req, now)
		})
		if err == nil && req.Phase == api.PhaseDone {
			s.learnSize(ctx, id, req.VM)
		}
	case cloud.TerminateLetter:
		err = s.updateInstance(ctx, id, nil, func(v *cloud.View, i *cloud.Instance, now time.Time) error {
			return i.ReportTerminate(req, now)
		})
	case cloud.RestartLetter:
		err = s.updateInstance(ctx, id, nil, func(v *cloud.View, i *cloud.Instance, now time.Time) error {
			return i.ReportRestart(v, req, rest, now)
		})
	case cloud.SaveLetter:
		err = s.reportSave(ctx, req, ref)
	case cloud.RolloutLetter:
		err = s.reportRollout(ctx, req, ref)
	default:
		return true, nil
	}
	if errors.Is(err, cloud.ErrNotFound) || errors.Is(err, cloud.ErrNotYours) {
		return true, nil
	}
	return false, err
}
