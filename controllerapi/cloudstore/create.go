package cloudstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/controllerapi/keeper"
	"github.com/ankacluster/ankacluster/internal/etcdkit"
	"go.uber.org/zap"
)

// Create adds instances that share a start request, all or none. answer is what
// the request's sender will be told.
func (s *Store) Create(ctx context.Context, batch cloud.StartRequestRecord, instances []*cloud.Instance, answer any) error {
	if len(instances) == 0 || len(instances) > cloud.MaxCount {
		return fmt.Errorf("%d instances in a batch: from 1 to %d are possible", len(instances), cloud.MaxCount)
	}
	large := len(instances) > cloud.MaxAtOnce
	for _, i := range instances {
		i.Request, i.Attempt = batch.ID, 1
	}
	err := s.decide(ctx, func(v *cloud.View, now time.Time) (*cloud.Change, bool, error) {
		return v.CreateInstances(batch, instances, answer, s.macs())
	})
	if err != nil || !large {
		return err
	}
	// From here on all of it will be there, whether or not its caller waits.
	return s.expand(context.WithoutCancel(ctx), batch.ID)
}

// expand makes the instances of a large batch that are not there yet.
func (s *Store) expand(ctx context.Context, id string) error {
	ctx = etcdkit.WithoutIdem(ctx)
	if err := s.Fresh(ctx); err != nil {
		return err
	}
	for done := false; !done; {
		err := s.decide(ctx, func(v *cloud.View, _ time.Time) (*cloud.Change, bool, error) {
			var c *cloud.Change
			var err error
			c, done, err = v.Expand(id, s.macs())
			return c, errors.Is(err, cloud.ErrNoChange), err
		})
		if err != nil {
			return fmt.Errorf("make the instances of batch %s: %w", id, err)
		}
		if !done {
			if err := s.Fresh(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// macs is what addresses are given from.
func (s *Store) macs() cloud.MACSource {
	return cloud.MACSource{Range: s.cfg.MACRange, Tries: s.cfg.MACTries}
}

// finishStarts finishes what a Store that died has begun.
func (s *Store) finishStarts(ctx context.Context) {
	var open []string
	s.Read(func(v *cloud.View) { open = keeper.UnfinishedStarts(v, s.now(), s.cfg.RequestTimeout) })
	for _, id := range open {
		if err := s.expand(ctx, id); err != nil {
			s.log.Warn("batch not finished yet", zap.String("batch", id), zap.Error(err))
		}
	}
}
