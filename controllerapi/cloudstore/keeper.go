package cloudstore

import (
	"context"
	"errors"
	"strings"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/internal/etcdkit"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	keeperTick = time.Second

	// sweepEvery is how often start requests that no instance has are looked for.
	sweepEvery = time.Hour
	// queueLimit is how long an instance may wait for a node.
	queueLimit = 24 * time.Hour
	// silentFor is how long a start may go without a report, from an agent that
	// does not list its tasks.
	silentFor = 15 * time.Minute
)

// keeper does what one Store of the cloud has to do: it moves the clock, buries
// and forgets ended instances, and settles those whose node is gone. All of it is
// compare-and-set, so that two keepers at a time only cost conflicts.
func (s *Store) keeper(ctx context.Context) {
	tick := time.NewTicker(keeperTick)
	defer tick.Stop()
	var since time.Time // of being keeper, and of etcd taking writes
	stood := false      // the clock, because etcd took none
	var ticked, swept, cleaned time.Time
	offline := make(map[api.NodeID]time.Time) // since when, as far as this keeper saw
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if !s.isLeader(ctx, "keeper") {
			since, swept, cleaned = time.Time{}, time.Time{}, time.Time{}
			clear(offline)
			s.keeping.Store(false)
			continue
		}
		now := s.now()
		if since.IsZero() {
			s.log.Info("this controller is the keeper now")
			since = now
			s.keeping.Store(true)
		}
		if now.Sub(ticked) >= cloud.FenceTick {
			c := new(cloud.Change)
			c.Put(cloud.FenceRef, s.fenceRecord(now))
			if _, err := s.commit(ctx, c); err != nil {
				s.log.Warn("clock not moved", zap.Error(err))
				stood = true
				continue // nothing may be forgotten while the clock stands still
			}
			ticked = now
			if stood { // nodes could not be heard either
				since, stood = s.now(), false
				clear(offline)
			}
		}
		s.runDuties(ctx, now, since, offline)
		if now.Sub(swept) >= sweepEvery {
			if err := s.sweepRequests(ctx); err != nil {
				s.log.Warn("start requests not swept", zap.Error(err))
			} else {
				swept = now
			}
		}
		if now.Sub(cleaned) >= s.cfg.CleanQueuesInterval {
			s.cleanQueue(ctx)
			cleaned = now
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
		used := make(map[string]bool)
		s.Read(func(v *cloud.View) {
			for _, i := range v.Instances {
				used[i.Batch] = true
			}
			for id := range v.LargeStarts {
				used[id] = true
			}
		})
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

// cleanQueue ends the wait of instances that no node has taken for a day.
func (s *Store) cleanQueue(ctx context.Context) {
	var old []api.InstanceID
	now := s.now()
	s.Read(func(v *cloud.View) {
		for id, i := range v.Pending() {
			if v.AgeOf(i, now) > queueLimit {
				old = append(old, id)
			}
		}
	})
	for _, id := range old {
		err := s.updateInstance(ctx, id, nil, func(v *cloud.View, i *cloud.Instance, now time.Time) error {
			if !i.Pending() || v.AgeOf(i, now) <= queueLimit {
				return cloud.ErrNoChange
			}
			i.Fail("no node has taken it for "+queueLimit.String(), now)
			return nil
		})
		if err := ignoreGone(err); err != nil {
			s.log.Warn("instance that waits for ever not ended", zap.String("instance_id", string(id)), zap.Error(err))
		}
	}
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
	c := new(cloud.Change)
	c.Must(cloud.LeaderRef(duty), 0)
	c.PutLeased(cloud.LeaderRef(duty), cloud.Leader{ID: s.leaderID(lease)}, int64(lease))
	res, err := s.commit(ctx, c)
	return err == nil && s.WaitRevision(ctx, res.Rev) == nil
}

// leaderID differs between two leases of one Store, so that a duty under an old
// lease is not taken for one that lasts.
func (s *Store) leaderID(lease clientv3.LeaseID) string {
	return s.cfg.ID + "/" + time.Duration(lease).String()
}

// runDuties does one round. The view may be behind; every change compares.
func (s *Store) runDuties(ctx context.Context, now, since time.Time, offline map[api.NodeID]time.Time) {
	type job struct {
		id   api.InstanceID
		node api.NodeID
		do   func(ctx context.Context, id api.InstanceID, node api.NodeID) error
	}
	var jobs []job
	// After an outage of ours, nodes get one full timeout to come back.
	patient := now.Sub(since) < s.cfg.NodeActiveTimeout
	// A node is offline when it has been silent for its own timeout; what runs on
	// it may have a longer one.
	grace := s.cfg.InstanceActiveTimeout - s.cfg.NodeActiveTimeout
	s.Read(func(v *cloud.View) {
		for id := range v.Placements() {
			if v.Leases[id] != nil {
				delete(offline, id)
			} else if _, ok := offline[id]; !ok {
				offline[id] = now
			}
		}
		for id := range offline {
			if v.OnNode(id) == nil {
				delete(offline, id)
			}
		}
		for id, i := range v.Instances {
			var node api.NodeID
			if i.Claim != nil {
				node = i.Claim.Node
			}
			switch {
			case v.Forgettable(i, now):
				jobs = append(jobs, job{id, node, s.forget})
			case i.Deleted == nil && i.Ended() && v.AgeOf(i, now) >= s.cfg.InstanceTimeout:
				jobs = append(jobs, job{id, node, s.markDeleted})
			case node == "" || i.Public.InstanceState == api.Terminated:
			case v.Nodes[node] == nil:
				jobs = append(jobs, job{id, node, s.settleOrphan})
			case v.Leases[node] == nil && !patient && (!i.Claim.Done || now.Sub(offline[node]) >= grace) && !i.Ended() && i.Public.InstanceState != api.Error:
				jobs = append(jobs, job{id, node, s.settleOffline})
			case !i.Claim.Done && !i.Ended() && v.AgeOf(i, now) > silentFor && v.Reports[node] != nil && v.Reports[node].TasksHash == "":
				jobs = append(jobs, job{id, node, s.settleSilent})
			case v.RestartOverdue(i, now):
				jobs = append(jobs, job{id, node, s.settleRestart})
			}
		}
	})
	s.tidyRequests(ctx, now)
	s.finishStarts(ctx)
	for _, j := range jobs {
		if ctx.Err() != nil {
			return
		}
		if err := ignoreGone(j.do(ctx, j.id, j.node)); err != nil {
			s.log.Warn("instance not kept", zap.String("instance_id", string(j.id)), zap.Error(err))
		}
	}
}

// tidyRequests ends what is stuck of save-image requests, and forgets old ones
// and old jobs.
func (s *Store) tidyRequests(ctx context.Context, now time.Time) {
	stuck := make(map[string]string)
	var oldImages, oldJobs []string
	s.Read(func(v *cloud.View) {
		for id, img := range v.Images {
			if img.Status != cloud.ImagePending {
				if v.Age(img.Rev, now) > cloud.RecordsFor {
					oldImages = append(oldImages, id)
				}
			} else if why := v.StuckImage(img, now); why != "" {
				stuck[id] = why
			}
		}
		for id, j := range v.Rollouts {
			if v.Age(j.Rev, now) > cloud.RecordsFor+cloud.RolloutLimit {
				oldJobs = append(oldJobs, id)
			}
		}
	})
	for id, why := range stuck {
		if err := s.endImage(ctx, id, why); err != nil {
			s.log.Warn("stuck save-image request not ended", zap.String("request", id), zap.Error(err))
		}
	}
	for _, id := range oldImages {
		c := new(cloud.Change)
		c.Delete(cloud.ImageRef(id))
		c.Delete(cloud.OutputRef(id, "stdout"))
		c.Delete(cloud.OutputRef(id, "stderr"))
		if _, err := s.commit(ctx, c); err != nil {
			s.log.Warn("old save-image request not forgotten", zap.String("request", id), zap.Error(err))
		}
	}
	for _, id := range oldJobs {
		if err := s.forgetRollout(ctx, id); err != nil {
			s.log.Warn("old job not forgotten", zap.String("job", id), zap.Error(err))
		}
	}
}

func (s *Store) markDeleted(ctx context.Context, id api.InstanceID, _ api.NodeID) error {
	return s.updateInstance(ctx, id, nil, func(_ *cloud.View, i *cloud.Instance, now time.Time) error {
		if i.Deleted != nil || !i.Ended() {
			return cloud.ErrNoChange
		}
		i.MarkDeleted(now)
		return nil
	})
}

// forget deletes the record, and the start request if it is the last of it.
func (s *Store) forget(ctx context.Context, id api.InstanceID, _ api.NodeID) error {
	return s.decide(ctx, func(v *cloud.View, now time.Time) (*cloud.Change, bool, error) {
		return v.Forget(id, now)
	})
}

// settleOffline settles an instance whose node has been away for its timeout.
func (s *Store) settleOffline(ctx context.Context, id api.InstanceID, node api.NodeID) error {
	return s.updateInstance(ctx, id, nil, func(v *cloud.View, i *cloud.Instance, now time.Time) error {
		if i.Ended() || i.Claim == nil || i.Claim.Node != node || v.Leases[node] != nil {
			return cloud.ErrNoChange
		}
		if !i.Claim.Done {
			i.Requeue("node is offline", now)
			return nil
		}
		if i.Public.InstanceState == api.Error {
			return cloud.ErrNoChange
		}
		i.Fail("node is offline", now)
		return nil
	})
}

func (s *Store) settleSilent(ctx context.Context, id api.InstanceID, node api.NodeID) error {
	return s.updateInstance(ctx, id, nil, func(v *cloud.View, i *cloud.Instance, now time.Time) error {
		if i.Ended() || i.Claim == nil || i.Claim.Node != node || i.Claim.Done || v.AgeOf(i, now) <= silentFor {
			return cloud.ErrNoChange
		}
		if i.Attempt >= cloud.MaxAttempts {
			i.Fail("no report from the node", now)
			return nil
		}
		i.Requeue("no report from the node", now)
		return nil
	})
}

func (s *Store) settleRestart(ctx context.Context, id api.InstanceID, _ api.NodeID) error {
	return s.updateInstance(ctx, id, nil, func(v *cloud.View, i *cloud.Instance, now time.Time) error {
		if !v.RestartOverdue(i, now) {
			return cloud.ErrNoChange
		}
		i.Fail("not restarted within "+cloud.RestartLimit.String(), now)
		return nil
	})
}
