package cloudstore

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

var (
	// ErrUnknownNode: the node must register.
	ErrUnknownNode = errors.New("node is not registered")
	// ErrSessionEnded: a newer session of the node exists.
	ErrSessionEnded = errors.New("session was replaced by a newer one")
	// ErrOtherHost: the node is another host than the one that registers.
	ErrOtherHost = errors.New("the node is another host")
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
	lease, err := s.grant(ctx, s.leaseTTL())
	if err != nil {
		return err
	}
	rev, err := s.decideAt(ctx, func(v *View, now time.Time) (*Change, bool, error) {
		return v.Register(req, int64(lease), now)
	})
	if err != nil {
		return fmt.Errorf("register node %s: %w", req.NodeID, err)
	}
	if rev == 0 { // a repeat: the lease of the first time is the node's
		admitted()
		return s.renew(ctx, req.NodeID, req.Session, true)
	}
	s.renewed.Store(req.NodeID, now)
	return s.WaitRevision(ctx, rev)
}

// Register begins a session of a node, whose life hangs on the lease. Repeating
// it is no error.
func (v *View) Register(req api.RegisterRequest, lease int64, now time.Time) (*Change, bool, error) {
	cur := v.Nodes[req.NodeID]
	next := &Node{ID: req.NodeID, Registered: now, Settings: firstSettings(req)}
	rev, overwrite := int64(0), false
	if cur != nil {
		*next, rev = *cur, cur.Rev
		overwrite = req.Seed.Overwrite && (req.Seed.Join == "" || req.Seed.Join != cur.Join)
		if req.Host.Other(cur.Machine, v.Leases[req.NodeID] != nil) {
			return nil, false, ErrOtherHost
		}
		// The order of arrival counts, and no clock: that of a node may have
		// been wrong when one of its sessions began.
		if slices.Contains(cur.Past, req.Session) {
			return nil, false, ErrSessionEnded
		}
		if overwrite {
			seed(&next.Settings, req.Seed)
		}
	}
	hash := api.HashPart(req.Facts)
	if cur != nil && cur.Session == req.Session && cur.FactsHash == hash && (req.Host == api.HostIdentity{} || cur.Machine == req.Host) && !overwrite {
		return nil, false, ErrNoChange
	}
	if cur != nil && cur.Session != "" && cur.Session != req.Session {
		next.Past = append(slices.Clone(cur.Past), cur.Session)
		next.Past = next.Past[max(0, len(next.Past)-maxPast):]
	}
	next.Session, next.SessionStarted = req.Session, req.SessionStarted
	if req.Host != (api.HostIdentity{}) { // an agent of an older version tells none
		next.Machine = req.Host
	}
	next.Facts, next.FactsHash = req.Facts, hash
	if cur == nil || overwrite {
		next.Join = req.Seed.Join
	}
	c := new(Change)
	c.Must(NodeRef(req.NodeID), rev)
	c.Put(NodeRef(req.NodeID), next)
	c.PutLeased(NodeLeaseRef(req.NodeID), NodeLease{Session: req.Session}, lease)
	if cur == nil || overwrite && req.Seed.Groups != nil {
		if err := v.joinGroups(c, req.NodeID, req.Seed.Groups); err != nil {
			return nil, false, err
		}
	}
	return c, false, nil
}

// maxPast sessions of a node are remembered: more than one of them is never under
// way at a time.
const maxPast = 8

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
	case s.joins <- struct{}{}:
		return sync.OnceFunc(func() { <-s.joins }), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: too many nodes join (%w)", ErrUnavailable, ctx.Err())
	}
}

// firstSettings are those of a node that is seen for the first time.
func firstSettings(req api.RegisterRequest) api.NodeSettings {
	set := api.NodeSettings{Name: string(req.NodeID), MaxVMCount: 2, CapacityMode: "number"}
	seed(&set, req.Seed)
	return set
}

func seed(set *api.NodeSettings, s api.SeedSettings) {
	assign(&set.Name, s.Name)
	assign(&set.MaxVMCount, s.MaxVMCount)
	assign(&set.CapacityMode, s.CapacityMode)
	assign(&set.VCPUOverride, s.VCPUOverride)
	assign(&set.RAMOverride, s.RAMOverride)
	assign(&set.DrainMode, s.DrainMode)
	assign(&set.IgnoreARMVMLimit, s.IgnoreARMVMLimit)
	assign(&set.DisableCentralLogging, s.DisableCentralLogging)
}

func assign[T any](dst *T, src *T) {
	if src != nil {
		*dst = *src
	}
}

// RemoveNode forgets a node with its keys and tasks. What was placed on it is
// settled by settleOrphan. session, when not "", must be the present one.
func (s *Store) RemoveNode(ctx context.Context, id api.NodeID, session string) error {
	asked := false
	err := s.decide(ctx, func(v *View, now time.Time) (*Change, bool, error) {
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

// RemoveNode forgets a node with its keys and tasks. session, when not "", must be
// the present one; asked says that an earlier attempt of the same request may
// have done it.
func (v *View) RemoveNode(id api.NodeID, session string, asked bool) (*Change, bool, error) {
	cur := v.Nodes[id]
	if cur == nil && asked {
		return nil, true, ErrNoChange // an earlier attempt of ours went through
	}
	if cur == nil {
		return nil, false, ErrNotFound
	}
	if session != "" && cur.Session != session {
		return nil, false, ErrSessionEnded
	}
	c := new(Change)
	c.Must(NodeRef(id), cur.Rev)
	for _, key := range []Ref{NodeRef(id), NodeReportRef(id), NodeLeaseRef(id), HandoutLogRef(id)} {
		c.Delete(key)
	}
	v.leaveGroups(c, id)
	for job, nodes := range v.rolloutNodes {
		if nodes[id] != nil && len(c.Ops) < maxOps {
			c.Delete(RolloutNodeRef(job, id))
		}
	}
	return c, false, nil
}

func (s *Store) placedOn(id api.NodeID) []*Instance {
	var out []*Instance
	s.Read(func(v *View) {
		for _, i := range v.OnNode(id) {
			out = append(out, i)
		}
	})
	return out
}

// settleOrphan settles an instance whose node is no more: not yet started, it
// goes back to the queue; running, it is in error; ending, it has ended.
func (s *Store) settleOrphan(ctx context.Context, id api.InstanceID, node api.NodeID) error {
	return ignoreGone(s.updateInstance(withoutIdem(ctx), id, nil, func(v *View, i *Instance, now time.Time) error {
		if i.Claim == nil || i.Claim.Node != node || v.Nodes[node] != nil {
			return ErrNoChange
		}
		switch i.Public.InstanceState {
		case api.Scheduling, api.Pulling:
			i.Requeue("node was removed", now)
		case api.Terminating:
			i.Become(api.Terminated, now)
		case api.Terminated, api.Error:
			return ErrNoChange
		default:
			i.Fail("node was removed", now)
		}
		return nil
	}))
}

func ignoreGone(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// Requeue takes an instance that has not started from its node and lets any
// node try, under a new attempt.
func (i *Instance) Requeue(why string, now time.Time) {
	i.Become(api.Scheduling, now)
	avoid := slices.Clone(i.Avoid)
	if i.Claim != nil {
		avoid = append(avoid, Avoid{Node: i.Claim.Node, At: now, Why: why})
	}
	if len(avoid) > maxAvoid {
		avoid = avoid[len(avoid)-maxAvoid:]
	}
	i.Avoid = avoid
	i.Claim = nil
	i.Attempt++
	i.Public.NodeID = ""
	i.Public.InflightReqID = ""
	i.Public.Progress = 0
	i.Public.VMInfo = nil
	i.Public.TS = now
}

// Fail puts the instance in error; what is known of its VM stays.
func (i *Instance) Fail(message string, now time.Time) {
	if !i.Become(api.Error, now) {
		return
	}
	i.Public.Message = message
	i.Restart = nil
	i.Image = ""
	i.Public.TS = now
}

// maxAvoid nodes are remembered as having handed an instance back.
const maxAvoid = 8

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
	t, _ := s.renewed.Load(id)
	at, _ := t.(time.Time)
	return at
}

// NoteRenewed tells of a renewal, for example by another Store.
func (s *Store) NoteRenewed(id api.NodeID, at time.Time) {
	if at.After(s.Renewed(id)) && !at.After(time.Now().Add(time.Second)) && s.node(id) != nil {
		s.renewed.Store(id, at)
	}
}

// RenewedUptime returns Renewed as the age of the cloud, which means the same to
// all Stores; false while it cannot be told.
func (s *Store) RenewedUptime(id api.NodeID) (time.Duration, bool) {
	at := s.Renewed(id)
	if at.IsZero() {
		return 0, false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.ages.Uptime(at.Add(time.Duration(s.ages.Offset.Load())))
}

// NoteRenewedUptime is NoteRenewed with what RenewedUptime returned at any Store.
func (s *Store) NoteRenewedUptime(id api.NodeID, up time.Duration) {
	now := time.Now()
	s.mu.RLock()
	present, ok := s.ages.Uptime(s.now())
	s.mu.RUnlock()
	if ok {
		s.NoteRenewed(id, now.Add(up-present))
	}
}

// renew keeps the node's lease alive if that is due or force is set, and makes
// one if there is none.
func (s *Store) renew(ctx context.Context, id api.NodeID, session string, force bool) error {
	live := record(s, func(v *View) map[api.NodeID]*NodeLease { return v.Leases }, id)
	now := time.Now()
	if live != nil && live.Session == session {
		if !force && now.Sub(s.Renewed(id)) < s.renewEvery() {
			return nil
		}
		wait, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout)
		defer cancel()
		err := s.renewer.ask(id, clientv3.LeaseID(live.Lease)).wait(wait)
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
	lease, err := s.grant(ctx, s.leaseTTL())
	if err != nil {
		return err
	}
	err = s.decide(ctx, func(v *View, now time.Time) (*Change, bool, error) {
		return v.BeginLease(id, session, int64(lease))
	})
	if err != nil {
		return fmt.Errorf("begin lease of node %s: %w", id, err)
	}
	s.renewed.Store(id, now)
	return nil
}

// BeginLease hangs a node's life on another lease.
func (v *View) BeginLease(id api.NodeID, session string, lease int64) (*Change, bool, error) {
	node := v.Nodes[id]
	if node == nil {
		return nil, false, ErrUnknownNode
	}
	if node.Session != session {
		return nil, false, ErrSessionEnded
	}
	c := new(Change)
	// A node that was removed must not come back half.
	c.Must(NodeRef(id), node.Rev)
	c.PutLeased(NodeLeaseRef(id), NodeLease{Session: session}, lease)
	return c, false, nil
}

// effectiveSettings are a node's settings as it is told them, made when they are first
// asked for.
type effectiveSettings struct {
	atomic.Pointer[api.NodeSettings]
}

// SettingsOf returns a node's settings as the node is told them.
func (v *View) SettingsOf(n *Node) api.NodeSettings {
	told := v.effective[n.ID]
	if told != nil && v.Nodes[n.ID] == n {
		if set := told.Load(); set != nil {
			return *set
		}
	}
	set := n.Settings
	set.GroupIDs = v.GroupsOf(n.ID)
	set.Generation = 0
	h := fnv.New64a()
	_, _ = h.Write([]byte(api.HashPart(set)))
	set.Generation = int64(h.Sum64() >> 1)
	if told != nil && v.Nodes[n.ID] == n {
		told.Store(&set)
	}
	return set
}

// GroupsOf returns the ids of a node's groups, sorted.
func (v *View) GroupsOf(id api.NodeID) []api.GroupID { return v.memberOf[id] }
