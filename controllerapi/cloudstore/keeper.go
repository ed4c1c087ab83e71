package cloudstore

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/controllerapi/keeper"
	"github.com/ankacluster/ankacluster/internal/etcdkit"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	keeperTick = time.Second
	// sweepEvery is how often start requests that no instance has are looked for.
	sweepEvery = time.Hour
)

// keeper does what one Store of the cloud has to do: it moves the fence, and
// carries out the duties that package keeper finds. All of it is compare-and-set,
// so that two keepers at a time only cost conflicts.
func (s *Store) keeper(ctx context.Context) {
	tick := time.NewTicker(keeperTick)
	defer tick.Stop()
	k := keeper.New(keeper.Config{
		NodeActiveTimeout: s.cfg.NodeActiveTimeout, InstanceActiveTimeout: s.cfg.InstanceActiveTimeout,
		InstanceTimeout: s.cfg.InstanceTimeout,
	})
	stood := false // the fence, because etcd took no writes
	var ticked, swept, cleaned time.Time
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if !s.isLeader(ctx, "keeper") {
			swept, cleaned = time.Time{}, time.Time{}
			s.keeping.Store(false)
			continue
		}
		now := s.now()
		if !s.keeping.Load() {
			s.log.Info("this controller is the keeper now")
			k.Begin(now)
			s.keeping.Store(true)
		}
		if now.Sub(ticked) >= cloud.FenceTick {
			c := new(cloud.Change)
			c.Put(cloud.FenceRef, s.fenceRecord(now))
			if _, err := s.commit(ctx, c); err != nil {
				s.log.Warn("clock not moved", zap.Error(err))
				stood = true
				continue // nothing may be forgotten while the fence stands still
			}
			ticked = now
			if stood { // nodes could not be heard either
				k.Begin(s.now())
				stood = false
			}
		}
		var duties []keeper.Duty
		s.Read(func(v *cloud.View) { duties = k.Duties(v, now) })
		s.finishStarts(ctx)
		s.runDuties(ctx, duties)
		if now.Sub(swept) >= sweepEvery {
			if err := s.sweepRequests(ctx); err != nil {
				s.log.Warn("start requests not swept", zap.Error(err))
			} else {
				swept = now
			}
		}
		if now.Sub(cleaned) >= s.cfg.CleanQueuesInterval {
			s.Read(func(v *cloud.View) { duties = keeper.EndedWaits(v, s.now()) })
			s.runDuties(ctx, duties)
			cleaned = now
		}
	}
}

// runDuties carries out what is due. The view that it was found on may be behind;
// every change compares.
func (s *Store) runDuties(ctx context.Context, duties []keeper.Duty) {
	for _, d := range duties {
		if ctx.Err() != nil {
			return
		}
		if err := ignoreGone(s.runDuty(ctx, d)); err != nil {
			s.log.Warn(d.Failed, zap.String(d.Kind, d.ID), zap.Error(err))
		}
	}
}

func (s *Store) runDuty(ctx context.Context, d keeper.Duty) error {
	if d.Update != nil {
		return s.updateInstance(ctx, d.Instance, nil, d.Update)
	}
	for {
		rev, err := s.decideAt(ctx, d.Decide)
		if err != nil || rev == 0 || !d.Repeat {
			return err
		}
		if err := s.WaitRevision(ctx, rev); err != nil {
			return err
		}
	}
}

// sweepRequests deletes start requests that no instance has any more. The record
// of the last instance takes its request along; this is for what was left when
// two keepers were at it at the same time.
func (s *Store) sweepRequests(ctx context.Context) error {
	return s.kit.Pages(ctx, dirRequest, func(resp *clientv3.GetResponse) error {
		// Request and instances are made in one transaction: what is not there at
		// the revision of this answer will not come.
		if err := s.WaitRevision(ctx, resp.Header.Revision); err != nil {
			return err
		}
		var used map[string]bool
		s.Read(func(v *cloud.View) { used = keeper.UsedRequests(v) })
		for _, kv := range resp.Kvs {
			id := strings.TrimPrefix(string(kv.Key), dirRequest)
			if used[id] {
				continue
			}
			c := new(cloud.Change)
			c.Must(cloud.RequestRef(id), kv.ModRevision)
			c.Delete(cloud.RequestRef(id))
			if _, err := s.commit(ctx, c); err != nil && !errors.Is(err, etcdkit.ErrConflict) {
				return err
			}
		}
		return nil
	}, clientv3.WithKeysOnly())
}

// Keeping reports whether this Store is the keeper.
func (s *Store) Keeping() bool { return s.keeping.Load() }

// isLeader reports whether this Store has the duty, and takes it if it is free.
func (s *Store) isLeader(ctx context.Context, duty string) bool {
	lease := clientv3.LeaseID(s.lease.Load())
	if lease == 0 {
		return false
	}
	leader := record(s, func(v *cloud.View) map[string]*cloud.Leader { return v.Leaders }, duty)
	if leader != nil {
		return leader.ID == s.leaderID(lease)
	}
	res, err := s.kit.Elect(ctx, key(cloud.LeaderRef(duty)), cloud.Leader{ID: s.leaderID(lease)}, lease)
	return err == nil && s.WaitRevision(ctx, res.Rev) == nil
}

// leaderID differs between two leases of one Store, so that a duty under an old
// lease is not taken for one that lasts.
func (s *Store) leaderID(lease clientv3.LeaseID) string {
	return s.cfg.ID + "/" + time.Duration(lease).String()
}
