package cloudstore

import (
	"context"
	"errors"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	// quietFor is how old the view may be that a heartbeat without news is
	// answered from: less than the time to the node's next one. It bridges an
	// election of etcd, and a time when nodes join faster than etcd can write.
	quietFor = 3 * time.Second
	// proveAfter is the age at which a younger proof is asked for, without waiting.
	proveAfter = quietFor / 6
)

// Sync takes a node's heartbeat: it stores what changed, brings the node's
// instances in line with its VMs, and renews its lease.
func (s *Store) Sync(ctx context.Context, req *api.SyncRequest) (cloud.Synced, error) {
	if out, ok := s.quiet(req); ok {
		s.noteLoad(req.NodeID, req.Load)
		return out, nil
	}
	var out cloud.Synced
	if err := s.Fresh(ctx); err != nil {
		return out, err
	}
	if err := s.checkSession(req.NodeID, req.Session); err != nil {
		return out, err
	}
	s.noteLoad(req.NodeID, req.Load)
	resync, err := s.applyHeartbeat(ctx, req)
	if err != nil && !errors.Is(err, ErrNoSpace) {
		return out, err
	}
	// A full etcd renews leases all the same: the node lives, though what it says
	// cannot be stored.
	if err := errors.Join(err, s.renew(ctx, req.NodeID, req.Session, false)); err != nil {
		return out, err
	}
	out.Resync = resync
	s.Read(func(v *cloud.View) {
		if n := v.Nodes[req.NodeID]; n != nil {
			out.Settings = v.SettingsOf(n)
			out.Assignments = v.Assignments(n, req.Seq, s.cfg.UnknownVMThreshold, s.now(), resync)
		}
	})
	return out, nil
}

// applyHeartbeat stores what a heartbeat says, and brings the node's instances in
// line with it. It reports whether a part is missing.
func (s *Store) applyHeartbeat(ctx context.Context, req *api.SyncRequest) (resync bool, err error) {
	resync, err = s.storeReport(ctx, req)
	if err != nil || resync {
		return resync, err
	}
	return false, s.reconcile(ctx, req)
}

// quiet answers a heartbeat that brings no news and gets none, from a view that
// was complete a moment ago. That is nearly every one, and to prove the view
// fresh for each would be most of the cloud's work. What the view lacks of the
// last moment, the next heartbeat brings; whatever is not the same on both sides
// is looked at on a fresh view. A part that was sent is news by itself: a node
// that was in this state before, and in another meanwhile, would be taken for
// unchanged on a view that lacks the other one, and that stays stored.
func (s *Store) quiet(req *api.SyncRequest) (out cloud.Synced, ok bool) {
	if req.Facts != nil || req.VMs != nil || req.Images != nil || req.Tasks != nil {
		return out, false
	}
	proof := s.cache.Proof()
	if proof >= proveAfter {
		s.cache.ProveSoon()
	}
	if proof >= quietFor {
		return out, false
	}
	now := s.now()
	age := time.Since(s.Renewed(req.NodeID))
	if age >= s.renewEvery() {
		return out, false
	}
	var lease int64
	s.Read(func(v *cloud.View) { out, lease, ok = v.Quiet(req, s.cfg.UnknownVMThreshold, now) })
	if ok && age >= s.renewAfter() {
		s.nodes.renewer.Ask(string(req.NodeID), clientv3.LeaseID(lease)) // a lease that is lost ends the node's NodeLease, which is news
	}
	return out, ok
}

// CheckSession returns ErrUnknownNode or ErrSessionEnded unless session is the
// node's present one.
func (s *Store) CheckSession(ctx context.Context, id api.NodeID, session string) error {
	if s.checkSession(id, session) == nil {
		return nil
	}
	if err := s.Fresh(ctx); err != nil {
		return err
	}
	return s.checkSession(id, session)
}

// checkSession looks at the view, which must be fresh for a refusal to count.
func (s *Store) checkSession(id api.NodeID, session string) error {
	n := s.node(id)
	if n == nil {
		return cloud.ErrUnknownNode
	}
	if n.Session != session {
		return cloud.ErrSessionEnded
	}
	return nil
}

// storeReport stores the parts that differ from what is stored. It reports
// whether a part that differs was not sent.
func (s *Store) storeReport(ctx context.Context, req *api.SyncRequest) (resync bool, err error) {
	if state := record(s, func(v *cloud.View) map[api.NodeID]*cloud.NodeReport { return v.Reports }, req.NodeID); state == nil || state.Session != req.Session {
		admitted, err := s.admit(ctx)
		if err != nil {
			return false, err
		}
		defer admitted()
	}
	rev, err := s.decideAt(ctx, func(v *cloud.View, now time.Time) (*cloud.Change, bool, error) {
		return v.StoreReport(req, &resync, now)
	})
	if err != nil {
		return false, err
	}
	return resync, s.WaitRevision(ctx, rev) // what follows looks at it
}

// reconcile brings the instances on a node in line with what it says of its VMs
// and tasks.
func (s *Store) reconcile(ctx context.Context, req *api.SyncRequest) error {
	infos := cloud.VMsByInstance(req)
	var changed []api.InstanceID
	s.Read(func(v *cloud.View) { changed = v.ObservedChanges(req, infos, s.now()) })
	for _, id := range changed {
		err := s.updateInstance(ctx, id, nil, func(v *cloud.View, i *cloud.Instance, now time.Time) error {
			if i.Claim == nil || i.Claim.Node != req.NodeID {
				return cloud.ErrNoChange
			}
			return i.Observe(v, req, infos[id], now)
		})
		if err != nil && !errors.Is(err, cloud.ErrNotFound) {
			s.log.Warn("instance not brought in line with its VM", zap.String("instance_id", string(id)), zap.Error(err))
			return err
		}
	}
	return nil
}
