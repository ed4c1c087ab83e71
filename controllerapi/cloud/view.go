package cloud

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// View is all watched state at one revision. It is valid only while its owner keeps
// it from being changed; the records it hands out are immutable and may be kept.
type View struct {
	Meta    *Meta
	Cluster *Cluster

	Instances   map[api.InstanceID]*Instance
	Nodes       map[api.NodeID]*Node
	Reports     map[api.NodeID]*NodeReport
	Leases      map[api.NodeID]*NodeLease
	HandoutLogs map[api.NodeID]*HandoutLog
	Servers     map[string]*Server // by id
	Leaders     map[string]*Leader

	Groups   map[api.GroupID]*Group
	Members  map[api.GroupID]*Members
	Images   map[string]*Image
	Rollouts map[string]*Rollout
	MACs     map[string]*MAC
	MACPool  *MACPool
	Sizes    map[api.TemplateID]*TemplateSize
	Loads    map[api.NodeID]api.NodeLoad // as last broadcast

	LargeStarts map[string]*LargeStart

	Rev          int64            // the view is all state up to it
	Ages         *Ages            // shared by the views of a Store
	FenceRev     int64            // of the fence
	serverLeases map[string]int64 // of Servers, by id

	memberOf     map[api.NodeID][]api.GroupID // sorted
	effective    map[api.NodeID]*effectiveSettings
	rolloutNodes map[string]map[api.NodeID]*RolloutNode

	onNode  map[api.NodeID]map[api.InstanceID]*Instance
	pending map[api.InstanceID]*Instance
	order   []*Instance // by creation; nil during a load
}

// Cluster is the announced lists; Generation grows with every change of them.
type Cluster struct {
	api.Cluster
	rev int64
}

// Changes says what a batch of events touched.
type Changes struct {
	Queue   bool // tasks that wait for a node came or changed
	Cluster bool
	Nodes   map[api.NodeID]struct{} // their tasks, capacity, settings or liveness

	Fence    *FenceRecord // if it moved
	FenceRev int64
}

// Node notes that a node is touched.
func (c *Changes) Node(id api.NodeID) {
	if id == "" {
		return
	}
	if c.Nodes == nil {
		c.Nodes = make(map[api.NodeID]struct{})
	}
	c.Nodes[id] = struct{}{}
}

// NewView returns an empty view.
func NewView() *View {
	return &View{
		Ages:         new(Ages),
		Instances:    make(map[api.InstanceID]*Instance),
		Nodes:        make(map[api.NodeID]*Node),
		Reports:      make(map[api.NodeID]*NodeReport),
		Leases:       make(map[api.NodeID]*NodeLease),
		HandoutLogs:  make(map[api.NodeID]*HandoutLog),
		Servers:      make(map[string]*Server),
		Leaders:      make(map[string]*Leader),
		Groups:       make(map[api.GroupID]*Group),
		Members:      make(map[api.GroupID]*Members),
		Images:       make(map[string]*Image),
		Rollouts:     make(map[string]*Rollout),
		MACs:         make(map[string]*MAC),
		Sizes:        make(map[api.TemplateID]*TemplateSize),
		Loads:        make(map[api.NodeID]api.NodeLoad),
		LargeStarts:  make(map[string]*LargeStart),
		serverLeases: make(map[string]int64),
		memberOf:     make(map[api.NodeID][]api.GroupID),
		effective:    make(map[api.NodeID]*effectiveSettings),
		rolloutNodes: make(map[string]map[api.NodeID]*RolloutNode),
		onNode:       make(map[api.NodeID]map[api.InstanceID]*Instance),
		pending:      make(map[api.InstanceID]*Instance),
	}
}

// OnNode returns the instances that are placed on a node: claimed by it, and
// their VM not known to be gone.
func (v *View) OnNode(id api.NodeID) map[api.InstanceID]*Instance { return v.onNode[id] }

// Placements returns the instances that are placed on nodes, by node.
func (v *View) Placements() map[api.NodeID]map[api.InstanceID]*Instance { return v.onNode }

// Pending returns the instances that wait for a node.
func (v *View) Pending() map[api.InstanceID]*Instance { return v.pending }

// Visible returns the instances that lists show, in order of creation.
func (v *View) Visible() []*Instance {
	out := make([]*Instance, 0, len(v.order))
	for _, i := range v.order {
		if i.Deleted == nil {
			out = append(out, i)
		}
	}
	return out
}

// byCreation orders by revision: the controllers' clocks may differ.
func byCreation(a, b *Instance) int {
	return cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(string(a.Public.InstanceID), string(b.Public.InstanceID)))
}

// Version is when a record was made and written last, in revisions of etcd, and
// with which lease it ends, 0 for none.
type Version struct{ Created, Rev, Lease int64 }

// New returns an empty record of the table, nil for a table that the view does not
// have.
func (t Table) New() any {
	switch t {
	case MetaTable:
		return new(Meta)
	case FenceTable:
		return new(FenceRecord)
	case ClusterTable:
		return new(Cluster)
	case MACPoolTable:
		return new(MACPool)
	case InstanceTable:
		return new(Instance)
	case NodeTable:
		return new(Node)
	case NodeReportTable:
		return new(NodeReport)
	case NodeLeaseTable:
		return new(NodeLease)
	case HandoutLogTable:
		return new(HandoutLog)
	case GroupTable:
		return new(Group)
	case MemberTable:
		return new(Members)
	case ImageTable:
		return new(Image)
	case RolloutTable:
		return new(Rollout)
	case RolloutNodeTable:
		return new(RolloutNode)
	case ServerTable:
		return new(Server)
	case LargeStartTable:
		return new(LargeStart)
	case LoadTable:
		return new(map[api.NodeID]api.NodeLoad)
	case LeaderTable:
		return new(Leader)
	case MACTable:
		return new(MAC)
	case SizeTable:
		return new(TemplateSize)
	}
	return nil
}

// Apply brings a record that was written, or deleted when record is nil, into the
// view, which keeps it. It notes in ch what that touches.
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
		if v.Cluster, _ = record.(*Cluster); v.Cluster != nil {
			v.Cluster.rev = at.Rev
		}
	case InstanceTable:
		next, _ := record.(*Instance)
		if next != nil {
			next.Rev, next.Created = at.Rev, at.Created
		}
		v.applyInstance(api.InstanceID(id), next, ch)
	case NodeTable:
		ch.Node(api.NodeID(id))
		if record == nil {
			delete(v.Loads, api.NodeID(id))
			delete(v.effective, api.NodeID(id))
		} else {
			v.effective[api.NodeID(id)] = new(effectiveSettings)
		}
		set(v.Nodes, api.NodeID(id), record, func(n *Node) { n.Rev = at.Rev })
	case NodeReportTable:
		ch.Node(api.NodeID(id))
		set(v.Reports, api.NodeID(id), record, func(s *NodeReport) { s.Rev = at.Rev })
	case NodeLeaseTable:
		ch.Node(api.NodeID(id))
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
		set(v.Groups, api.GroupID(id), record, func(g *Group) { g.rev = at.Rev })
	case MemberTable:
		next, _ := record.(*Members)
		if next != nil {
			next.rev = at.Rev
		}
		v.applyMembers(api.GroupID(id), next, ch)
	case ImageTable:
		if img := v.Images[id]; img != nil {
			ch.Node(img.Node)
		}
		set(v.Images, id, record, func(i *Image) { i.Rev = at.Rev; ch.Node(i.Node) })
	case RolloutTable:
		set(v.Rollouts, id, record, func(j *Rollout) { j.Rev = at.Rev; j.index(ch) })
	case RolloutNodeTable:
		next, _ := record.(*RolloutNode)
		if next != nil {
			next.Rev = at.Rev
		}
		v.applyJobNode(id, next, ch)
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
func (v *View) applyMembers(id api.GroupID, next *Members, ch *Changes) {
	prev := v.Members[id]
	if v.Members[id] = next; next == nil {
		delete(v.Members, id)
	}
	ch.Queue = true
	if prev != nil {
		for _, n := range prev.Nodes {
			v.regroup(n, ch)
			v.memberOf[n] = slices.DeleteFunc(slices.Clone(v.memberOf[n]), func(g api.GroupID) bool { return g == id })
			if len(v.memberOf[n]) == 0 {
				delete(v.memberOf, n)
			}
		}
	}
	if next != nil {
		for _, n := range next.Nodes {
			v.regroup(n, ch)
			v.memberOf[n] = append(slices.Clone(v.memberOf[n]), id)
			slices.Sort(v.memberOf[n])
		}
	}
}

func (v *View) regroup(n api.NodeID, ch *Changes) {
	ch.Node(n)
	if v.effective[n] != nil {
		v.effective[n] = new(effectiveSettings)
	}
}

func (v *View) applyJobNode(id string, next *RolloutNode, ch *Changes) {
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

func (v *View) applyInstance(id api.InstanceID, next *Instance, ch *Changes) {
	prev := v.Instances[id]
	if prev != nil {
		delete(v.pending, id)
		if prev.Claim != nil {
			ch.Node(prev.Claim.Node)
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

// lazyJSON is an encoding that is made when it is first asked for.
type lazyJSON struct{ data atomic.Pointer[[]byte] }

// ListedJSON returns the instance as an element of the instance list. The
// caller must not change it.
func (i *Instance) ListedJSON() []byte {
	if p := i.listed.data.Load(); p != nil {
		return *p
	}
	data, err := json.Marshal(i.Listed())
	if err != nil {
		panic("cloudstore: an instance that was decoded does not encode: " + err.Error())
	}
	i.listed.data.Store(&data)
	return data
}

// Listed returns the instance as an element of the instance list.
func (i *Instance) Listed() api.ListedInstance {
	l := api.ListedInstance{InstanceID: i.Public.InstanceID, VM: i.Public}
	if i.Public.ExternalID != "" {
		l.ExternalID = &i.Public.ExternalID
	}
	if i.Public.Name != "" {
		l.Name = &i.Public.Name
	}
	return l
}
