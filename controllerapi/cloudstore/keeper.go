package cloudstore

import (
	"context"
	"errors"
	"strings"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	keeperTick = time.Second
	// FenceTick is how often the fence moves. A creation that was sent before a
	// move fails after it.
	FenceTick = 20 * time.Second
	// buriedFor is how long the record of an instance that has left the lists is
	// kept: longer than a creation that arrives late can be late.
	buriedFor = 3 * FenceTick
	// unconfirmedFor is how long the record of an instance whose node never
	// confirmed its end is kept, so that its VM is removed when the node returns.
	unconfirmedFor = 24 * time.Hour
	// sweepEvery is how often start requests that no instance has are looked for.
	sweepEvery = time.Hour
	// queueLimit is how long an instance may wait for a node.
	queueLimit = 24 * time.Hour
	// silentFor is how long a start may go without a report, from an agent that
	// does not list its tasks.
	silentFor = 15 * time.Minute
	// RestartLimit is how long a restart may take: a forced stop and a few
	// attempts to start, each of which has a limit at the node.
	RestartLimit = 30 * time.Minute
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
		if now.Sub(ticked) >= FenceTick {
			c := new(Change)
			c.Put(FenceRef, s.fenceRecord(now))
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
	next, end := dirRequest, clientv3.GetPrefixRangeEnd(dirRequest)
	for {
		resp, err := hedged(ctx, s.readPolicy(), func(ctx context.Context) (*clientv3.GetResponse, error) {
			return s.etcd.Get(ctx, next, clientv3.WithRange(end), clientv3.WithLimit(pageSize), clientv3.WithKeysOnly())
		})
		if err != nil {
			return err
		}
		// Request and instances are made in one transaction: what is not there at
		// the revision of this answer will not come.
		if err := s.WaitRevision(ctx, resp.Header.Revision); err != nil {
			return err
		}
		used := make(map[string]bool)
		s.Read(func(v *View) {
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
			c := new(Change)
			c.Must(RequestRef(id), kv.ModRevision)
			c.Delete(RequestRef(id))
			if _, err := s.commit(ctx, c); err != nil && !errors.Is(err, errConflict) {
				return err
			}
		}
		if !resp.More {
			return nil
		}
		next = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// cleanQueue ends the wait of instances that no node has taken for a day.
func (s *Store) cleanQueue(ctx context.Context) {
	var old []api.InstanceID
	now := s.now()
	s.Read(func(v *View) {
		for id, i := range v.pending {
			if v.AgeOf(i, now) > queueLimit {
				old = append(old, id)
			}
		}
	})
	for _, id := range old {
		err := s.updateInstance(ctx, id, nil, func(v *View, i *Instance, now time.Time) error {
			if !i.Pending() || v.AgeOf(i, now) <= queueLimit {
				return ErrNoChange
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
	leader := record(s, func(v *View) map[string]*Leader { return v.Leaders }, duty)
	if leader != nil {
		return leader.ID == s.leaderID(lease)
	}
	c := new(Change)
	c.Must(LeaderRef(duty), 0)
	c.PutLeased(LeaderRef(duty), Leader{ID: s.leaderID(lease)}, int64(lease))
	res, err := s.commit(ctx, c)
	return err == nil && s.WaitRevision(ctx, res.rev) == nil
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
	s.Read(func(v *View) {
		for id := range v.onNode {
			if v.Leases[id] != nil {
				delete(offline, id)
			} else if _, ok := offline[id]; !ok {
				offline[id] = now
			}
		}
		for id := range offline {
			if v.onNode[id] == nil {
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
	s.Read(func(v *View) {
		for id, img := range v.Images {
			if img.Status != ImagePending {
				if v.Age(img.Rev, now) > RecordsFor {
					oldImages = append(oldImages, id)
				}
			} else if why := v.StuckImage(img, now); why != "" {
				stuck[id] = why
			}
		}
		for id, j := range v.Rollouts {
			if v.Age(j.Rev, now) > RecordsFor+RolloutLimit {
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
		c := new(Change)
		c.Delete(ImageRef(id))
		c.Delete(OutputRef(id, "stdout"))
		c.Delete(OutputRef(id, "stderr"))
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

// Forgettable reports whether the record of an ended instance has done its duty.
// A creation that is still on its way fails once the fence has moved since the
// burial.
func (v *View) Forgettable(i *Instance, now time.Time) bool {
	if i.Deleted == nil || v.FenceRev <= i.Rev {
		return false
	}
	if i.Public.InstanceState == api.Terminated {
		return v.AgeOf(i, now) >= buriedFor
	}
	return v.AgeOf(i, now) >= unconfirmedFor
}

func (s *Store) markDeleted(ctx context.Context, id api.InstanceID, _ api.NodeID) error {
	return s.updateInstance(ctx, id, nil, func(_ *View, i *Instance, now time.Time) error {
		if i.Deleted != nil || !i.Ended() {
			return ErrNoChange
		}
		i.MarkDeleted(now)
		return nil
	})
}

// forget deletes the record, and the start request if it is the last of it.
func (s *Store) forget(ctx context.Context, id api.InstanceID, _ api.NodeID) error {
	return s.decide(ctx, func(v *View, now time.Time) (*Change, bool, error) {
		return v.Forget(id, now)
	})
}

// Forget deletes the record of an ended instance, and the start request if it is
// the last of it.
func (v *View) Forget(id api.InstanceID, now time.Time) (*Change, bool, error) {
	i := v.Instances[id]
	if i == nil || !v.Forgettable(i, now) || v.LargeStarts[i.Batch] != nil {
		return nil, true, ErrNoChange
	}
	c := new(Change)
	c.Must(InstanceRef(id), i.Rev)
	c.Delete(InstanceRef(id))
	last := true
	for other, o := range v.Instances {
		if other != id && o.Batch == i.Batch {
			last = false
			break
		}
	}
	if last {
		c.Delete(RequestRef(i.Batch))
	}
	// Also of an instance that ended while they were stored.
	c.Delete(OutputRef(string(id), "stdout"))
	c.Delete(OutputRef(string(id), "stderr"))
	if addr := i.Public.MACAddress; v.MACs[addr] != nil && v.MACs[addr].Instance == id {
		c.Delete(MACRef(addr))
	}
	return c, false, nil
}

// settleOffline settles an instance whose node has been away for its timeout.
func (s *Store) settleOffline(ctx context.Context, id api.InstanceID, node api.NodeID) error {
	return s.updateInstance(ctx, id, nil, func(v *View, i *Instance, now time.Time) error {
		if i.Ended() || i.Claim == nil || i.Claim.Node != node || v.Leases[node] != nil {
			return ErrNoChange
		}
		if !i.Claim.Done {
			i.Requeue("node is offline", now)
			return nil
		}
		if i.Public.InstanceState == api.Error {
			return ErrNoChange
		}
		i.Fail("node is offline", now)
		return nil
	})
}

func (s *Store) settleSilent(ctx context.Context, id api.InstanceID, node api.NodeID) error {
	return s.updateInstance(ctx, id, nil, func(v *View, i *Instance, now time.Time) error {
		if i.Ended() || i.Claim == nil || i.Claim.Node != node || i.Claim.Done || v.AgeOf(i, now) <= silentFor {
			return ErrNoChange
		}
		if i.Attempt >= MaxAttempts {
			i.Fail("no report from the node", now)
			return nil
		}
		i.Requeue("no report from the node", now)
		return nil
	})
}

// RestartOverdue reports whether a restart has taken too long.
func (v *View) RestartOverdue(i *Instance, now time.Time) bool {
	return i.Restart != nil && !i.Ended() && v.Age(orRev(i.Restart.Rev, i.Rev), now) > RestartLimit
}

func (s *Store) settleRestart(ctx context.Context, id api.InstanceID, _ api.NodeID) error {
	return s.updateInstance(ctx, id, nil, func(v *View, i *Instance, now time.Time) error {
		if !v.RestartOverdue(i, now) {
			return ErrNoChange
		}
		i.Fail("not restarted within "+RestartLimit.String(), now)
		return nil
	})
}
