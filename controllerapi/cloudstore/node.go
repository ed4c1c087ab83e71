package cloudstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/internal/etcdkit"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Register begins a session of a node. Repeating it is no error. The view shows
// it when it returns.
func (s *Store) Register(ctx context.Context, req api.RegisterRequest) error {
	admitted, err := s.admit(ctx)
	if err != nil {
		return fmt.Errorf("register node %s: %w", req.NodeID, err)
	}
	defer admitted()
	now := time.Now()
	lease, err := s.kit.Grant(ctx, s.leaseTTL())
	if err != nil {
		return err
	}
	rev, err := s.decideAt(ctx, func(v *cloud.View, now time.Time) (*cloud.Change, bool, error) {
		return v.Register(req, int64(lease), now)
	})
	if err != nil {
		return fmt.Errorf("register node %s: %w", req.NodeID, err)
	}
	if rev == 0 { // a repeat: the lease of the first time is the node's
		admitted()
		return s.renew(ctx, req.NodeID, req.Session, true)
	}
	s.nodes.renewed.Store(req.NodeID, now)
	return s.WaitRevision(ctx, rev)
}

// nodeLeases are the leases by which nodes are alive.
type nodeLeases struct {
	joins   chan struct{} // a place for each node that joins at a time
	renewer *etcdkit.Renewer
	renewed sync.Map // NodeID -> time.Time of the last renewal that we know of
}

// maxJoins is how many nodes may write at a time what makes them members of the
// cloud. When thousands come at once, after a failure of power or of the network,
// the rest wait: writes that pile up at etcd delay all others, and with them the
// nodes that are in already.
const maxJoins = 16

// admit waits for a place among those that join. admitted gives it back; it may
// be called twice.
func (s *Store) admit(ctx context.Context) (admitted func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout)
	defer cancel()
	select {
	case s.nodes.joins <- struct{}{}:
		return sync.OnceFunc(func() { <-s.nodes.joins }), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: too many nodes join (%w)", ErrUnavailable, ctx.Err())
	}
}

// RemoveNode forgets a node with its keys and tasks. What was placed on it is
// settled by settleOrphan. session, when not "", must be the present one.
func (s *Store) RemoveNode(ctx context.Context, id api.NodeID, session string) error {
	asked := false
	err := s.decide(ctx, func(v *cloud.View, now time.Time) (*cloud.Change, bool, error) {
		c, certain, err := v.RemoveNode(id, session, asked)
		asked = asked || err == nil
		return c, certain, err
	})
	if err != nil {
		return err
	}
	s.event(api.EventNodeUnregistered, map[string]any{"node_id": id})
	// The keeper would do it too, but the caller may look at once.
	if err := s.Fresh(ctx); err != nil {
		return nil
	}
	for _, i := range s.placedOn(id) {
		if err := s.settleOrphan(ctx, i.Public.InstanceID, id); err != nil {
			s.log.Warn("instance of a removed node not settled yet", zap.Error(err),
				zap.String("instance_id", string(i.Public.InstanceID)), zap.String("node_id", string(id)))
		}
	}
	return nil
}

func (s *Store) placedOn(id api.NodeID) []*cloud.Instance {
	var out []*cloud.Instance
	s.Read(func(v *cloud.View) {
		for _, i := range v.OnNode(id) {
			out = append(out, i)
		}
	})
	return out
}

// settleOrphan settles an instance whose node is no more.
func (s *Store) settleOrphan(ctx context.Context, id api.InstanceID, node api.NodeID) error {
	return ignoreGone(s.updateInstance(etcdkit.WithoutIdem(ctx), id, nil, func(v *cloud.View, i *cloud.Instance, now time.Time) error {
		return i.SettleOrphan(v, node, now)
	}))
}

func ignoreGone(err error) error {
	if errors.Is(err, cloud.ErrNotFound) {
		return nil
	}
	return err
}

// leaseTTL is the life of a node's lease: the node is Offline when it has not
// been heard of for NodeActiveTimeout, and the lease may have been renewed as
// long before its last sync as renewEvery.
func (s *Store) leaseTTL() time.Duration { return s.cfg.NodeActiveTimeout + s.renewEvery() }

// renewEvery is the age of a renewal at which a heartbeat waits for the next one.
func (s *Store) renewEvery() time.Duration { return s.cfg.NodeActiveTimeout / 3 }

// renewAfter is the age from which the next one is asked for without waiting. It
// is a default heartbeat less than renewEvery, so that hardly any waits.
func (s *Store) renewAfter() time.Duration { return s.renewEvery() / 8 * 7 }

// Renewed returns when a node's lease was renewed last, as far as this Store
// knows.
func (s *Store) Renewed(id api.NodeID) time.Time {
	t, _ := s.nodes.renewed.Load(id)
	at, _ := t.(time.Time)
	return at
}

// NoteRenewed tells of a renewal, for example by another Store.
func (s *Store) NoteRenewed(id api.NodeID, at time.Time) {
	if at.After(s.Renewed(id)) && !at.After(time.Now().Add(time.Second)) && s.node(id) != nil {
		s.nodes.renewed.Store(id, at)
	}
}

// RenewedUptime returns Renewed as the age of the cloud, which means the same to
// all Stores; false while it cannot be told.
func (s *Store) RenewedUptime(id api.NodeID) (time.Duration, bool) {
	at := s.Renewed(id)
	if at.IsZero() {
		return 0, false
	}
	var up time.Duration
	var ok bool
	s.Read(func(*cloud.View) { up, ok = s.ages.Uptime(at.Add(time.Duration(s.ages.Offset.Load()))) })
	return up, ok
}

// NoteRenewedUptime is NoteRenewed with what RenewedUptime returned at any Store.
func (s *Store) NoteRenewedUptime(id api.NodeID, up time.Duration) {
	now := time.Now()
	var present time.Duration
	var ok bool
	s.Read(func(*cloud.View) { present, ok = s.ages.Uptime(s.now()) })
	if ok {
		s.NoteRenewed(id, now.Add(up-present))
	}
}

// renew keeps the node's lease alive if that is due or force is set, and makes
// one if there is none.
func (s *Store) renew(ctx context.Context, id api.NodeID, session string, force bool) error {
	live := record(s, func(v *cloud.View) map[api.NodeID]*cloud.NodeLease { return v.Leases }, id)
	now := time.Now()
	if live != nil && live.Session == session {
		if !force && now.Sub(s.Renewed(id)) < s.renewEvery() {
			return nil
		}
		wait, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout)
		defer cancel()
		err := s.nodes.renewer.Ask(string(id), clientv3.LeaseID(live.Lease)).Wait(wait)
		if err == nil {
			return nil
		}
		if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return fmt.Errorf("renew lease of node %s: %w", id, err)
		}
	}
	admitted, err := s.admit(ctx)
	if err != nil {
		return fmt.Errorf("begin lease of node %s: %w", id, err)
	}
	defer admitted()
	lease, err := s.kit.Grant(ctx, s.leaseTTL())
	if err != nil {
		return err
	}
	err = s.decide(ctx, func(v *cloud.View, now time.Time) (*cloud.Change, bool, error) {
		return v.BeginLease(id, session, int64(lease))
	})
	if err != nil {
		return fmt.Errorf("begin lease of node %s: %w", id, err)
	}
	s.nodes.renewed.Store(id, now)
	return nil
}

// ConfigureNode changes a node's settings; nil is unchanged.
func (s *Store) ConfigureNode(ctx context.Context, id api.NodeID, set api.SeedSettings, host *string) error {
	return s.decide(ctx, func(v *cloud.View, now time.Time) (*cloud.Change, bool, error) {
		return v.ConfigureNode(id, set, host)
	})
}
