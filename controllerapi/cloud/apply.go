package cloud

import (
	"maps"
	"slices"
	"strings"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// Version is when a record was made and written last, in revisions of etcd, and
// with which lease it ends, 0 for none.
type Version struct{ Created, Rev, Lease int64 }

// records make an empty record of each table that is in the view.
var records = map[Table]func() any{
	MetaTable:        empty[Meta],
	FenceTable:       empty[FenceRecord],
	ClusterTable:     empty[Cluster],
	MACPoolTable:     empty[MACPool],
	InstanceTable:    empty[Instance],
	NodeTable:        empty[Node],
	NodeReportTable:  empty[NodeReport],
	NodeLeaseTable:   empty[NodeLease],
	HandoutLogTable:  empty[HandoutLog],
	GroupTable:       empty[Group],
	MemberTable:      empty[Members],
	SaveTable:        empty[SaveRequest],
	RolloutTable:     empty[Rollout],
	RolloutNodeTable: empty[RolloutNode],
	ServerTable:      empty[Server],
	LargeStartTable:  empty[LargeStart],
	LoadTable:        empty[map[api.NodeID]api.NodeLoad],
	LeaderTable:      empty[Leader],
	MACTable:         empty[MAC],
	SizeTable:        empty[TemplateSize],
}

func empty[T any]() any { return new(T) }

// New returns an empty record of the table, nil for a table that the view does not
// have.
func (t Table) New() any {
	if f := records[t]; f != nil {
		return f()
	}
	return nil
}

// Apply brings a record that was written, or deleted when record is nil, into the
// view, which keeps it. It notes in ch what that touches. at.Rev is that of the
// deletion, too.
func (v *View) Apply(ref Ref, record any, at Version, ch *Changes) {
	id := ref.ID
	switch ref.Table {
	case MetaTable:
		v.Meta, _ = record.(*Meta)
	case FenceTable:
		if record != nil {
			v.FenceRev = at.Rev
			ch.Fence, ch.FenceRev = record.(*FenceRecord), at.Rev
		}
	case MACPoolTable:
		if v.MACPool, _ = record.(*MACPool); v.MACPool != nil {
			v.MACPool.rev = at.Rev
		}
	case ClusterTable:
		ch.Cluster = true
		ch.tell(Touch{Rev: at.Rev, Kind: api.KindCluster})
		if v.Cluster, _ = record.(*Cluster); v.Cluster != nil {
			v.Cluster.rev = at.Rev
		}
	case InstanceTable:
		next, _ := record.(*Instance)
		if next != nil {
			next.Rev, next.Created = at.Rev, at.Created
		}
		if next != nil && next.Deleted == nil {
			ch.tell(Touch{Rev: at.Rev, Kind: api.KindVM, ID: id, VM: next})
		} else if prev := v.Instances[api.InstanceID(id)]; prev != nil && prev.Deleted == nil {
			ch.tell(Touch{Rev: at.Rev, Kind: api.KindVM, ID: id})
		}
		v.applyInstance(api.InstanceID(id), next, at.Rev, ch)
	case NodeTable:
		ch.Node(api.NodeID(id))
		ch.tellNode(at.Rev, api.NodeID(id))
		if record == nil {
			delete(v.Loads, api.NodeID(id))
			delete(v.effective, api.NodeID(id))
		} else {
			v.effective[api.NodeID(id)] = new(effectiveSettings)
		}
		set(v.Nodes, api.NodeID(id), record, func(n *Node) { n.Rev = at.Rev })
	case NodeReportTable:
		ch.Node(api.NodeID(id))
		ch.tellNode(at.Rev, api.NodeID(id))
		set(v.Reports, api.NodeID(id), record, func(s *NodeReport) { s.Rev, s.placed = at.Rev, imageSet(s.Images) })
	case NodeLeaseTable:
		ch.Node(api.NodeID(id))
		ch.tellNode(at.Rev, api.NodeID(id))
		set(v.Leases, api.NodeID(id), record, func(l *NodeLease) { l.Rev, l.Lease = at.Rev, at.Lease })
	case HandoutLogTable:
		ch.Node(api.NodeID(id))
		set(v.HandoutLogs, api.NodeID(id), record, func(l *HandoutLog) { l.Rev = at.Rev })
	case ServerTable:
		ch.Cluster = true
		delete(v.serverLeases, id)
		set(v.Servers, id, record, func(*Server) { v.serverLeases[id] = at.Lease })
	case LeaderTable:
		set(v.Leaders, id, record, func(*Leader) {})
	case GroupTable:
		ch.Queue = true
		ch.tell(Touch{Rev: at.Rev, Kind: api.KindGroup, ID: id})
		set(v.Groups, api.GroupID(id), record, func(g *Group) { g.rev = at.Rev })
	case MemberTable:
		next, _ := record.(*Members)
		if next != nil {
			next.rev = at.Rev
		}
		v.applyMembers(api.GroupID(id), next, at.Rev, ch)
	case SaveTable:
		if img := v.SaveRequests[id]; img != nil {
			ch.Node(img.Node)
		}
		set(v.SaveRequests, id, record, func(i *SaveRequest) { i.Rev = at.Rev; ch.Node(i.Node) })
	case RolloutTable:
		set(v.Rollouts, id, record, func(j *Rollout) { j.Rev = at.Rev; j.index(ch) })
	case RolloutNodeTable:
		next, _ := record.(*RolloutNode)
		if next != nil {
			next.Rev = at.Rev
		}
		v.applyRolloutNode(id, next, ch)
	case LoadTable:
		if loads, _ := record.(*map[api.NodeID]api.NodeLoad); loads != nil {
			maps.Copy(v.Loads, *loads)
		}
	case LargeStartTable:
		set(v.LargeStarts, id, record, func(b *LargeStart) { b.Rev = at.Rev })
	case SizeTable:
		ch.Queue = true
		set(v.Sizes, api.TemplateID(id), record, func(s *TemplateSize) { s.rev = at.Rev })
	case MACTable:
		set(v.MACs, id, record, func(m *MAC) { m.rev = at.Rev })
	}
}

// applyMembers keeps the index of groups by node.
func (v *View) applyMembers(id api.GroupID, next *Members, rev int64, ch *Changes) {
	prev := v.Members[id]
	if v.Members[id] = next; next == nil {
		delete(v.Members, id)
	}
	ch.Queue = true
	if prev != nil {
		for _, n := range prev.Nodes {
			v.regroup(n, rev, ch)
			v.memberOf[n] = slices.DeleteFunc(slices.Clone(v.memberOf[n]), func(g api.GroupID) bool { return g == id })
			if len(v.memberOf[n]) == 0 {
				delete(v.memberOf, n)
			}
		}
	}
	if next != nil {
		for _, n := range next.Nodes {
			v.regroup(n, rev, ch)
			v.memberOf[n] = append(slices.Clone(v.memberOf[n]), id)
			slices.Sort(v.memberOf[n])
		}
	}
}

func (v *View) regroup(n api.NodeID, rev int64, ch *Changes) {
	ch.Node(n)
	ch.tellNode(rev, n)
	if v.effective[n] != nil {
		v.effective[n] = new(effectiveSettings)
	}
}

func (v *View) applyRolloutNode(id string, next *RolloutNode, ch *Changes) {
	job, node, _ := strings.Cut(id, "/")
	ch.Node(api.NodeID(node))
	nodes := v.rolloutNodes[job]
	if nodes == nil {
		nodes = make(map[api.NodeID]*RolloutNode)
		v.rolloutNodes[job] = nodes
	}
	if nodes[api.NodeID(node)] = next; next == nil {
		delete(nodes, api.NodeID(node))
	}
	if len(nodes) == 0 {
		delete(v.rolloutNodes, job)
	}
}

func (v *View) applyInstance(id api.InstanceID, next *Instance, rev int64, ch *Changes) {
	prev := v.Instances[id]
	if prev != nil {
		delete(v.pending, id)
		if prev.Claim != nil {
			ch.Node(prev.Claim.Node)
			ch.tellNode(rev, prev.Claim.Node)
			delete(v.onNode[prev.Claim.Node], id)
			if len(v.onNode[prev.Claim.Node]) == 0 {
				delete(v.onNode, prev.Claim.Node)
			}
		}
	}
	v.reorder(prev, next)
	if next == nil {
		delete(v.Instances, id)
		return
	}
	v.Instances[id] = next
	if next.Pending() {
		v.pending[id] = next
		ch.Queue = true
	}
	if next.Claim != nil && next.Public.InstanceState != api.Terminated {
		ch.Node(next.Claim.Node)
		ch.tellNode(rev, next.Claim.Node)
		if v.onNode[next.Claim.Node] == nil {
			v.onNode[next.Claim.Node] = make(map[api.InstanceID]*Instance)
		}
		v.onNode[next.Claim.Node][id] = next
	}
}

// reorder keeps order when prev becomes next. Creation times never change.
func (v *View) reorder(prev, next *Instance) {
	if v.order == nil {
		return // sorted at the end of the load
	}
	one := next
	if one == nil {
		one = prev
	}
	if one == nil {
		return
	}
	at, found := slices.BinarySearchFunc(v.order, one, byCreation)
	switch {
	case found && next == nil:
		v.order = slices.Delete(v.order, at, at+1)
	case found:
		v.order[at] = next
	case next != nil:
		v.order = slices.Insert(v.order, at, next)
	}
}

// Sort makes the order after a load.
func (v *View) Sort() {
	v.order = slices.AppendSeq(make([]*Instance, 0, len(v.Instances)), maps.Values(v.Instances))
	slices.SortFunc(v.order, byCreation)
}

// set puts a record into m[id], or deletes it when record is nil.
func set[K comparable, T any](m map[K]*T, id K, record any, fill func(*T)) {
	val, _ := record.(*T)
	if val == nil {
		delete(m, id)
		return
	}
	fill(val)
	m[id] = val
}
