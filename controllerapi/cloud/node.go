package cloud

import (
	"errors"
	"hash/fnv"
	"slices"
	"sync/atomic"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

var (
	// ErrUnknownNode: the node must register.
	ErrUnknownNode = errors.New("node is not registered")
	// ErrSessionEnded: a newer session of the node exists.
	ErrSessionEnded = errors.New("session was replaced by a newer one")
	// ErrOtherHost: the node is another host than the one that registers.
	ErrOtherHost = errors.New("the node is another host")
)

// Register begins a session of a node, whose life hangs on the lease. Repeating
// it is no error.
func (v *View) Register(req api.RegisterRequest, lease int64, now time.Time) (*Change, bool, error) {
	cur := v.Nodes[req.NodeID]
	next := &Node{ID: req.NodeID, Registered: now, Settings: firstSettings(req)}
	rev, overwrite := int64(0), false
	if cur != nil {
		*next, rev = *cur, cur.Rev
		overwrite = req.Seed.Overwrite && (req.Seed.Join == "" || req.Seed.Join != cur.Join)
		if req.Host.Other(cur.Machine, v.Alive(req.NodeID)) {
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

// RemoveNode forgets a node with its keys and tasks. session, when not "", must be
// the present one; asked reports whether an earlier attempt of the same request
// may have done it.
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

// SettleOrphan settles an instance whose node is no more: not yet started, it goes
// back to the queue; running, it is in error; ending, it has ended.
func (i *Instance) SettleOrphan(v *View, node api.NodeID, now time.Time) error {
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
	i.Save = ""
	i.Public.TS = now
}

// maxAvoid nodes are remembered as having handed an instance back.
const maxAvoid = 8

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

// effectiveSettings are the settings that a node applies, made when they are first asked
// for.
type effectiveSettings struct {
	atomic.Pointer[api.NodeSettings]
}

// SettingsOf returns the settings that a node applies.
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

// ConfigureNode changes a node's settings; nil is unchanged.
func (v *View) ConfigureNode(id api.NodeID, set api.SeedSettings, host *string) (*Change, bool, error) {
	cur := v.Nodes[id]
	if cur == nil {
		return nil, false, ErrNotFound
	}
	next := *cur
	seed(&next.Settings, set)
	assign(&next.Settings.Host, host)
	if api.HashPart(next) == api.HashPart(cur) {
		return nil, false, ErrNoChange
	}
	c := new(Change)
	c.Must(NodeRef(id), cur.Rev)
	c.Put(NodeRef(id), next)
	return c, false, nil
}
