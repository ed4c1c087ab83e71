package cloudstore

import (
	"context"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
)

// SaveImage asks for an instance's VM to be pushed. task is complete.
func (s *Store) SaveImage(ctx context.Context, instance api.InstanceID, task api.SaveImageTask, answer any) error {
	return s.decide(ctx, func(v *cloud.View, now time.Time) (*cloud.Change, bool, error) {
		return v.Save(instance, task, answer, now)
	})
}

// reportSave takes a report of a save-image task.
func (s *Store) reportSave(ctx context.Context, req *api.ReportRequest, ref string) error {
	if err := s.storeOutput(ctx, req, cloud.SaveRef(ref), ref); err != nil {
		return err
	}
	return s.decide(ctx, func(v *cloud.View, now time.Time) (*cloud.Change, bool, error) {
		return v.ReportSave(req, ref, now)
	})
}
